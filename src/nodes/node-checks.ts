import { metadataAddress, withFix } from './node-fixes.ts'
import type { NodeCheck, NodeReport, WantedNode } from './node-report.ts'
import { type NpuDevice, parseNpuSmi } from './npu-smi.ts'
import type { ProbeOutput, Seen } from './read-probe.ts'

type Check = Omit<NodeCheck, 'name'>

/**
 * What the probe's output comes to: the node's devices, and a check for each thing that it is to be prepared for.
 * `now` is the time of this machine, in s.
 */
export function nodeReport(
  output: ProbeOutput,
  { rank, wanted, now }: { readonly rank: number; readonly wanted: WantedNode; readonly now: number },
): NodeReport {
  const devices = parseNpuSmi(output.get('npu-smi')?.text ?? '')
  const checks = Object.entries(checksOf(output, { devices, wanted, now })).flatMap(([name, check]) => {
    if (!check) return []
    const complete = withFix({ name: name as NodeCheck['name'], ...check }, wanted)
    return [output.has(`fix-${name}`) ? { ...complete, fixed: check.state === 'ok' } : complete]
  })
  return { rank, host: output.get('host')?.text.split(/\s/)[0] || `node ${rank}`, devices: [...devices], checks }
}

interface Situation {
  readonly devices: readonly NpuDevice[]
  readonly wanted: WantedNode
  readonly now: number
}

function checksOf(
  output: ProbeOutput,
  { devices, wanted, now }: Situation,
): Readonly<Record<NodeCheck['name'], Check | undefined>> {
  const of = (name: string): Seen => output.get(name) ?? { code: 127, text: '' }
  const hasDocker = of('docker').code === 0
  return {
    npu: npu(of, { devices, wanted, now }),
    driver: driver(of('driver'), wanted),
    docker: docker(of('docker'), of('docker-server'), wanted),
    ipForward: ipForward(of('ip-forward'), wanted),
    image: wanted.image === undefined ? undefined : image(of('image'), wanted.image),
    metadataBridge: hasDocker && wanted.network === 'bridge' ? metadataBridge(of('docker-user'), wanted) : undefined,
    metadataHost: hasDocker && wanted.network === 'host' ? metadataHost(of('output'), wanted) : undefined,
    disk: disk(wanted.disks.map(({ path, freeGb }, i) => ({ path, freeGb, df: of(`disk-${i}`) }))),
    shared: wanted.shared === undefined ? undefined : shared(of('shared'), wanted.shared),
    clock: clock(of, now),
    toolchain: wanted.toolchain === undefined ? undefined : toolchain(of('toolchain'), of('commit'), wanted.toolchain),
    python: output.has('python') ? python(of('python'), wanted) : undefined,
  }
}

const ok = (seen: string): Check => ({ state: 'ok', seen })
const firstLine = ({ text }: Seen) => text.split('\n')[0]!.trim()
/** What is needed is a failure, what could be needed a warning. */
const bad = (isNeeded: boolean): 'fail' | 'warn' => (isNeeded ? 'fail' : 'warn')

function npu(of: (name: string) => Seen, { devices, wanted }: Situation): Check {
  const smi = of('npu-smi')
  const state = bad(wanted.devicesPerNode > 0)
  if (devices.length === 0) {
    const files = of('davinci').text.split('\n').filter(Boolean).length
    if (smi.text.includes('-8020'))
      return { state, seen: firstLine(smi), advice: 'The devices are held by another container: release them first.' }
    if (smi.text.includes('-8005')) return { state, seen: firstLine(smi), advice: 'Install or reload the driver.' }
    if (smi.code === 127)
      return {
        ...{
          state,
          seen: files > 0 ? `no npu-smi, but ${files} device files` : 'no NPU: no npu-smi, no /dev/davinci*',
        },
        advice: 'Install firmware and driver, or choose a node that has NPUs.',
      }
    return { state, seen: firstLine(smi) || 'npu-smi shows no device', advice: 'Install firmware and driver.' }
  }
  const free = devices.filter(device => device.isFree)
  const sick = devices.filter(device => device.health !== 'OK')
  const busy = devices.filter(device => device.processes.length > 0)
  const seen = [
    `${free.length} of ${devices.length} free`,
    ...sick.map(device => `${label(device)} ${device.health}`),
    ...busy.map(
      device => `${label(device)} held by ${device.processes.map(({ name, pid }) => `${name} (${pid})`).join(', ')}`,
    ),
  ].join('; ')
  if (free.length < wanted.devicesPerNode)
    return {
      state: 'fail',
      seen,
      advice: `${wanted.devicesPerNode} are needed: end what holds them, or choose another node.`,
    }
  if (sick.length > 0) return { state: 'warn', seen, advice: 'Have the device looked at; jobs should leave it out.' }
  return ok(seen)
}

const label = ({ npu, chip, phyId }: NpuDevice) => (phyId === undefined ? `NPU ${npu}` : `NPU ${npu} chip ${chip}`)

function driver(seen: Seen, wanted: WantedNode): Check {
  const version = /^\s*Version\s*=\s*(\S+)/im.exec(seen.text)?.[1]
  if (version !== undefined) return ok(version)
  return {
    ...{ state: bad(wanted.devicesPerNode > 0), seen: 'no /usr/local/Ascend/driver/version.info' },
    advice: 'Install the Ascend driver; containers get it from /usr/local/Ascend/driver.',
  }
}

function docker(client: Seen, server: Seen, { image }: WantedNode): Check {
  const state = bad(image !== undefined)
  if (client.code !== 0) return { state, seen: 'docker is not installed', advice: 'Install it.' }
  if (server.code === 0) return ok(firstLine(client))
  return {
    state,
    seen: `${firstLine(client)}; ${firstLine(server)}`,
    advice: 'Start it: systemctl enable --now docker.',
  }
}

function ipForward(seen: Seen, { image, network }: WantedNode): Check {
  if (seen.text.trim() === '1') return ok('net.ipv4.ip_forward is 1')
  return {
    ...{
      state: bad(image !== undefined && network === 'bridge'),
      seen: `net.ipv4.ip_forward is ${firstLine(seen) || 'unknown'}`,
    },
    advice: 'Containers on a bridge have no network without it: set it to 1.',
  }
}

function image(seen: Seen, name: string): Check {
  if (seen.code === 0) return ok(`${name} is ${firstLine(seen)}`)
  return { state: 'fail', seen: `${name} is not on the node`, advice: 'Pull it before the job needs it.' }
}

/** Rules by which nothing reaches the metadata address, neither by one protocol or device nor from one source alone. */
const blocks = (rules: Seen) =>
  rules.text
    .split('\n')
    .filter(
      rule => rule.includes(`-d ${metadataAddress}`) && / -j (REJECT|DROP)\b/.test(rule) && !/ -[psio] /.test(rule),
    )

function metadataBridge(rules: Seen, { isMultiUser }: WantedNode): Check {
  const [rule] = blocks(rules)
  if (rule) return ok(rule)
  const seen =
    rules.code === 0
      ? `no rule for ${metadataAddress} in DOCKER-USER`
      : `DOCKER-USER cannot be read: ${firstLine(rules)}`
  return {
    ...{ state: bad(isMultiUser), seen },
    advice:
      'Containers can ask for the credentials of the node. The rule is gone after a reboot or a restart of docker.',
  }
}

function metadataHost(rules: Seen, { isMultiUser, containerUid }: WantedNode): Check {
  const [rule] = blocks(rules).filter(
    rule => (/--uid-owner (\S+)/.exec(rule)?.[1] ?? String(containerUid)) === String(containerUid),
  )
  if (rule) return ok(rule)
  const uid = containerUid === undefined ? 'Name the user of the containers (containerUid), or do' : 'Do'
  return {
    ...{ state: bad(isMultiUser), seen: `no rule for ${metadataAddress} in OUTPUT` },
    advice: `DOCKER-USER does not hold for containers on the host's network. ${uid} not share them.`,
  }
}

function disk(disks: readonly { path: string; freeGb: number; df: Seen }[]): Check | undefined {
  if (disks.length === 0) return undefined
  const looked = disks.map(({ path, freeGb, df }) => {
    // POSIX: Filesystem, 1024-blocks, Used, Available, Capacity, Mounted on.
    const available = Number(df.text.split('\n').at(-1)?.trim().split(/\s+/).at(3)) / 2 ** 20
    const free = df.code === 0 && Number.isFinite(available) ? available : undefined
    return {
      isEnough: free !== undefined && free >= freeGb,
      text: `${path}: ${free === undefined ? firstLine(df) : `${free.toFixed(0)} GiB free`}`,
    }
  })
  const seen = looked.map(({ text }) => text).join('; ')
  if (looked.every(({ isEnough }) => isEnough)) return ok(seen)
  const needed = disks.map(({ path, freeGb }) => `${freeGb} GiB in ${path}`).join(', ')
  return { state: 'fail', seen, advice: `Needed are ${needed}: make room or mount more.` }
}

function shared(seen: Seen, path: string): Check {
  const last = seen.text.split('\n').at(-1)!
  if (seen.code === 0) return ok(`${path}: written and seen by ${last} nodes`)
  if (/^\d+ of \d+$/.test(last))
    return {
      state: 'fail',
      seen: `${path}: ${last} nodes are seen in it`,
      advice: 'Mount the same folder on every node.',
    }
  return {
    state: 'fail',
    seen: `${path}: ${firstLine(seen)}`,
    advice: 'Mount it, and let the user of the job write there.',
  }
}

/** Clocks further apart than this make logs and certificates hard to trust. */
const skewSeconds = 2

function clock(of: (name: string) => Seen, now: number): Check {
  const [before, stamp, after] = of('shared-clock').text.split(' ').map(Number)
  const isSynchronised = of('ntp').text.trim() === 'yes' || /Leap status\s*:\s*Normal/.test(of('chrony').text)
  const advice = 'Synchronise the clock: chronyd or systemd-timesyncd.'
  const ahead = Number(of('date').text) - now
  if (ahead > skewSeconds) return { state: 'warn', seen: `${ahead} s ahead of this machine`, advice }
  if (before !== undefined && stamp !== undefined && after !== undefined) {
    const skew = stamp < before ? stamp - before : stamp > after ? stamp - after : 0
    if (Math.abs(skew) > skewSeconds)
      return {
        state: 'warn',
        seen: `the file server's clock is ${Math.abs(skew)} s ${skew > 0 ? 'ahead' : 'behind'}`,
        advice,
      }
    return ok(`within ${Math.abs(skew) + 1} s of the file server${isSynchronised ? ', synchronised' : ''}`)
  }
  return isSynchronised ? ok('synchronised') : { state: 'warn', seen: 'not known to be synchronised', advice }
}

function toolchain(entry: Seen, commit: Seen, path: string): Check {
  if (entry.code === 0) return ok(commit.code === 0 ? `${path} at ${firstLine(commit).slice(0, 12)}` : path)
  return {
    ...{ state: 'fail', seen: `${path} has no pretrain_gpt.py` },
    advice: 'Check out ModelLink or MindSpeed-LLM there: its root has pretrain_gpt.py.',
  }
}

function python(seen: Seen, { python: program, pythonPackages }: WantedNode): Check {
  if (seen.code !== 0)
    return {
      state: 'fail',
      seen: `${program}: ${firstLine(seen) || 'it does not start'}`,
      advice: 'Install it, or name another.',
    }
  const versions = seen.text.split('\n').map(line => line.split(' '))
  const missing = versions
    .filter(([name, version]) => version === '-' && pythonPackages.includes(name!))
    .map(([name]) => name)
  const there = versions.filter(([, version]) => version !== '-').map(words => words.join(' '))
  if (missing.length === 0) return ok(there.join(', '))
  return {
    state: 'fail',
    seen: `${there.join(', ')}; missing: ${missing.join(', ')}`,
    advice: `pip install ${missing.join(' ')}, in the versions that the toolchain names.`,
  }
}
