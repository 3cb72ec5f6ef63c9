import { chmod, mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { kubernetes, local, prepareNode, run } from 'ascendflow'
import { beforeEach, describe, expect, it } from 'vitest'
import { startClusterDouble } from '../executors/kubernetes/cluster-double.ts'

let dir: string
let store: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'prepare-node-'))
  store = join(dir, 'store')
})

/** Commands of a node whose image is missing and whose metadata address is open until somebody puts that right. */
const commands: Readonly<Record<string, string>> = {
  'npu-smi': `cat "${join(import.meta.dirname, '../nodes/npu-smi/910b.txt')}"`,
  docker: `case "$1" in
    -v) echo "Docker version 18.09.0, build 384e3e9" ;;
    version) echo 18.09.0 ;;
    image) [ -e "$NODE/pulled" ] && echo sha256:1f0c || { echo "Error: No such image" >&2; exit 1; } ;;
    pull) touch "$NODE/pulled" ;;
  esac`,
  iptables: `case "$*" in
    "-w -S DOCKER-USER") echo "-N DOCKER-USER"; [ -e "$NODE/rule" ] && cat "$NODE/rule"; echo "-A DOCKER-USER -j RETURN" ;;
    "-w -C DOCKER-USER -d 169.254.169.254 -j REJECT") [ -e "$NODE/rule" ] ;;
    "-w -I DOCKER-USER -d 169.254.169.254 -j REJECT") echo "-A DOCKER-USER -d 169.254.169.254/32 -j REJECT" > "$NODE/rule" ;;
    *) exit 2 ;;
  esac`,
  sysctl: 'touch "$NODE/forwarding"',
  cat: `case "$1" in
    /proc/sys/net/ipv4/ip_forward) [ -e "$NODE/forwarding" ] && echo 1 || echo 0 ;;
    *) exec /bin/cat "$@" ;;
  esac`,
  sed: 'if [ "$1" = -i ]; then exit 0; fi; exec /bin/sed "$@"',
  timedatectl: 'echo yes',
  chronyc: 'exit 1',
  yum: 'exit 1',
  systemctl: 'exit 1',
}

/** An executor whose node has those commands, each noting that it was called. */
async function node() {
  const bin = join(dir, 'bin')
  await mkdir(bin)
  for (const [name, script] of Object.entries(commands)) {
    await writeFile(join(bin, name), `#!/bin/sh\necho "${name} $*" >> "$NODE/calls"\n${script}\n`)
    await chmod(join(bin, name), 0o755)
  }
  return local({ env: { PATH: `${bin}:${process.env.PATH}`, NODE: dir } })
}
const calls = async () => (await readFile(join(dir, 'calls'), 'utf8')).trimEnd().split('\n')
const wanted = { image: 'pytorch:2.1', isMultiUser: true, devicesPerNode: 1 }

describe('prepareNode', () => {
  it('tells what a node has and lacks, with advice and commands, and changes nothing', async () => {
    const { nodes } = await run(prepareNode({ ...wanted, onFail: 'report' }), { store, on: await node() })
    const { devices, checks } = nodes[0]!
    expect(devices.map(({ npu, health, isFree }) => [npu, health, isFree])).toEqual([
      [0, 'OK', true],
      [5, 'Warning', false],
    ])
    expect(Object.fromEntries(checks.map(({ name, state }) => [name, state]))).toEqual({
      ...{
        npu: 'warn',
        driver: 'fail',
        docker: 'ok',
        ipForward: 'fail',
        image: 'fail',
        metadataBridge: 'fail',
        clock: 'ok',
      },
    })
    expect(checks.find(({ name }) => name === 'image')).toEqual({
      ...{ name: 'image', state: 'fail', seen: 'pytorch:2.1 is not on the node' },
      ...{ advice: 'Pull it before the job needs it.', fix: [['docker', 'pull', 'pytorch:2.1']] },
    })
    const changing = (await calls()).filter(call =>
      /^(sysctl|yum|systemctl|docker pull|sed -i|iptables -w -I)/.test(call),
    )
    expect(changing).toEqual([])
  })

  it('runs the very commands that it names with fix: true, and looks again', async () => {
    const on = await node()
    const named = await run(prepareNode({ ...wanted, onFail: 'report' }), { store, on })
    const before = await calls()
    const { nodes } = await run(prepareNode({ ...wanted, onFail: 'report', fix: true }), { store, on })
    const checks = nodes[0]!.checks.filter(({ fixed }) => fixed !== undefined)
    expect(checks.map(({ name, state, fixed }) => [name, state, fixed])).toEqual([
      ['ipForward', 'ok', true],
      ['image', 'ok', true],
      ['metadataBridge', 'ok', true],
    ])
    const since = (await calls()).slice(before.length)
    const wantedCalls = named.nodes[0]!.checks.flatMap(({ fix }) => fix ?? []).map(argv => argv.join(' '))
    expect(wantedCalls).toHaveLength(4)
    expect(since).toEqual(expect.arrayContaining(wantedCalls))
    expect(since.some(call => /^(yum|systemctl)/.test(call))).toBe(false)
  })

  it('stops the run where a check fails, naming each and what to do', async () => {
    await expect(run(prepareNode(wanted), { store, on: await node() })).rejects.toThrow(
      /image: pytorch:2\.1 is not on the node\..*Pull it before the job needs it\./,
    )
  })

  it('looks at this machine, which has no NPU, and says so', async () => {
    const shared = join(dir, 'shared')
    await mkdir(shared)
    const disks = [{ path: dir, freeGb: 0.001 }]
    const { nodes } = await run(prepareNode({ shared, disks }), { store })
    const checks = new Map(nodes[0]!.checks.map(check => [check.name, check]))
    expect(checks.get('npu')).toMatchObject({ state: 'warn', seen: expect.stringMatching(/^no NPU/) })
    expect(checks.get('shared')).toMatchObject({ state: 'ok', seen: `${shared}: written and seen by 1 of 1 nodes` })
    expect(checks.get('disk')).toMatchObject({ state: 'ok' })
    expect(await readdir(shared)).toEqual([])
  })

  it('lets the nodes of a cluster meet in their shared folder', async () => {
    const shared = join(dir, 'shared')
    await mkdir(shared)
    const cluster = await startClusterDouble(dir)
    try {
      const mounts = [{ path: dir, hostPath: dir }]
      const on = kubernetes({ image: 'x', dialect: 'cce', kubeconfig: cluster.kubeconfig, pollMs: 20, mounts })
      const { nodes } = await run(prepareNode({ nodes: 2, shared }), { store, on })
      expect(nodes.map(({ rank, checks }) => [rank, checks.find(({ name }) => name === 'shared')?.seen])).toEqual(
        [0, 1].map(rank => [rank, `${shared}: written and seen by 2 of 2 nodes`]),
      )
      expect(await readdir(shared)).toEqual([])
    } finally {
      await cluster.close()
    }
  })

  it('refuses what a shell or a command could take for something else', () => {
    expect(() => prepareNode({ image: '--privileged' })).toThrow('prepareNode.image: ')
    expect(() => prepareNode({ containerUid: 0 })).toThrow('prepareNode.containerUid: ')
    expect(() => prepareNode({ shared: 'relative' })).toThrow('an absolute path')
  })
})
