import { describe, expect, it } from 'vitest'
import { nodeReport } from '../../src/nodes/node-checks.ts'
import type { WantedNode } from '../../src/nodes/node-report.ts'
import { readProbe } from '../../src/nodes/read-probe.ts'

const bare: WantedNode = {
  ...{ devicesPerNode: 0, network: 'bridge', isMultiUser: false, dockerPackages: ['docker'], disks: [] },
  ...{ python: 'python3', pythonPackages: [] },
}
const image = 'swr.example.com/atelier/pytorch:2.1'
const held = 'dcmi model initialized failed, because the device is used. ret is -8020'
const table = `
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
| 0     910B2               | OK            | 88.4        38                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3402 / 65536         |
| 1     910B2               | Alarm         | 88.4        38                0    / 0             |
| 0                         | 0000:C2:00.0  | 0           0    / 0          3402 / 65536         |`
const rules = (rule: string) => `-N DOCKER-USER\n${rule}\n-A DOCKER-USER -j RETURN`
const df = 'Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 10485760 5242880 5242880 50% /data'

type Sections = Readonly<Record<string, readonly [code: number, text: string]>>

function check(name: string, sections: Sections, wanted: Partial<WantedNode> = {}) {
  const content = Object.entries({ host: [0, 'node-7 aarch64'] as const, date: [0, '1000'] as const, ...sections })
    .map(([name, [code, text]]) => `${name} ${code}\n${text.replaceAll(/^/gm, '\t')}\n`)
    .join('')
  const report = nodeReport(readProbe('node-0.txt', content), { rank: 0, wanted: { ...bare, ...wanted }, now: 1000 })
  expect(report.host).toBe('node-7')
  return report.checks.find(found => found.name === name)
}

const hasDocker: Sections = { docker: [0, 'Docker version 18.09.0'], 'docker-server': [0, '18.09.0'] }

describe('a check of a node', () => {
  it.each<[title: string, name: string, state: string, seen: RegExp, sections: Sections, wanted?: Partial<WantedNode>]>(
    [
      ['no NPU where none is needed', 'npu', 'warn', /no NPU/, { 'npu-smi': [127, 'npu-smi: not found'] }],
      ['no NPU where some are needed', 'npu', 'fail', /no NPU/, { 'npu-smi': [127, ''] }, { devicesPerNode: 8 }],
      ['devices held by a container', 'npu', 'fail', /-8020/, { 'npu-smi': [1, held] }, { devicesPerNode: 8 }],
      [
        'a driver that does not answer',
        'npu',
        'warn',
        /-8005/,
        { 'npu-smi': [1, 'dcmi module initialize failed. ret is -8005'] },
      ],
      [
        'device files without the tool',
        'npu',
        'warn',
        /2 device files/,
        { 'npu-smi': [127, ''], davinci: [0, 'davinci0\ndavinci1'] },
      ],
      [
        'a sick device beside enough sound ones',
        'npu',
        'warn',
        /1 of 2 free; NPU 1 Alarm/,
        { 'npu-smi': [0, table] },
        { devicesPerNode: 1 },
      ],
      ['too few free devices', 'npu', 'fail', /1 of 2 free/, { 'npu-smi': [0, table] }, { devicesPerNode: 2 }],
      ['the driver', 'driver', 'ok', /^24\.1\.rc2$/, { driver: [0, 'Version=24.1.rc2\nascendhal_version=7.35'] }],
      ['no docker where containers are to run', 'docker', 'fail', /not installed/, { docker: [127, ''] }, { image }],
      ['no docker where none are', 'docker', 'warn', /not installed/, { docker: [127, ''] }],
      [
        'a docker whose daemon is down',
        'docker',
        'fail',
        /Cannot connect/,
        { ...hasDocker, 'docker-server': [1, 'Cannot connect'] },
        { image },
      ],
      ['forwarding that is off', 'ipForward', 'fail', /is 0/, { 'ip-forward': [0, '0'] }, { image }],
      ['forwarding that is on', 'ipForward', 'ok', /is 1/, { 'ip-forward': [0, '1'] }, { image }],
      ['an image that is there', 'image', 'ok', /sha256:1f/, { image: [0, 'sha256:1f'] }, { image }],
      ['an image that is not', 'image', 'fail', /not on the node/, { image: [1, 'Error: No such image'] }, { image }],
      [
        'an open metadata address',
        'metadataBridge',
        'warn',
        /no rule/,
        { ...hasDocker, 'docker-user': [0, rules('')] },
      ],
      [
        'one that many can reach',
        'metadataBridge',
        'fail',
        /no rule/,
        { ...hasDocker, 'docker-user': [0, rules('')] },
        { isMultiUser: true },
      ],
      [
        'a closed one',
        'metadataBridge',
        'ok',
        /REJECT/,
        {
          ...hasDocker,
          'docker-user': [
            0,
            rules('-A DOCKER-USER -d 169.254.169.254/32 -j REJECT --reject-with icmp-port-unreachable'),
          ],
        },
      ],
      [
        'a rule that lets it pass',
        'metadataBridge',
        'warn',
        /no rule/,
        { ...hasDocker, 'docker-user': [0, rules('-A DOCKER-USER -d 169.254.169.254/32 -j ACCEPT')] },
      ],
      [
        'a rule for one protocol alone',
        'metadataBridge',
        'warn',
        /no rule/,
        { ...hasDocker, 'docker-user': [0, rules('-A DOCKER-USER -d 169.254.169.254/32 -p udp -j DROP')] },
      ],
      [
        'a rule for another user on the host network',
        'metadataHost',
        'warn',
        /no rule/,
        { ...hasDocker, output: [0, '-A OUTPUT -d 169.254.169.254/32 -m owner --uid-owner 10001 -j REJECT'] },
        { network: 'host', containerUid: 1000 },
      ],
      [
        'a rule for the user of the containers',
        'metadataHost',
        'ok',
        /1000/,
        { ...hasDocker, output: [0, '-A OUTPUT -d 169.254.169.254/32 -m owner --uid-owner 1000 -j REJECT'] },
        { network: 'host', containerUid: 1000 },
      ],
      ['enough room', 'disk', 'ok', /5 GiB free/, { 'disk-0': [0, df] }, { disks: [{ path: '/data', freeGb: 5 }] }],
      [
        'too little room',
        'disk',
        'fail',
        /5 GiB free/,
        { 'disk-0': [0, df] },
        { disks: [{ path: '/data', freeGb: 6 }] },
      ],
      [
        'a folder that is not there',
        'disk',
        'fail',
        /No such file/,
        { 'disk-0': [1, 'df: /data: No such file or directory'] },
        { disks: [{ path: '/data', freeGb: 1 }] },
      ],
      [
        'a folder that not all nodes share',
        'shared',
        'fail',
        /1 of 2 nodes/,
        { shared: [1, '1 of 2'] },
        { shared: '/mnt' },
      ],
      [
        'a folder that cannot be written',
        'shared',
        'fail',
        /Read-only/,
        { shared: [1, 'sh: /mnt/x: Read-only file system'] },
        { shared: '/mnt' },
      ],
      [
        'a clock that the file server agrees with',
        'clock',
        'ok',
        /within 1 s/,
        { 'shared-clock': [0, '1000 1000 1001'] },
      ],
      ['a file server that is ahead', 'clock', 'warn', /30 s ahead/, { 'shared-clock': [0, '1000 1031 1001'] }],
      ['a clock ahead of this machine', 'clock', 'warn', /60 s ahead of this machine/, { date: [0, '1060'] }],
      ['a clock that is synchronised', 'clock', 'ok', /synchronised/, { ntp: [0, 'yes'] }],
      [
        'one that chrony keeps',
        'clock',
        'ok',
        /synchronised/,
        { ntp: [127, ''], chrony: [0, 'Stratum : 3\nLeap status     : Normal'] },
      ],
      [
        'a checkout without its entry',
        'toolchain',
        'fail',
        /no pretrain_gpt/,
        { toolchain: [2, 'ls: cannot access'] },
        { toolchain: '/opt/ModelLink' },
      ],
      [
        'a checkout',
        'toolchain',
        'ok',
        /at 0123456789ab$/,
        { toolchain: [0, 'x'], commit: [0, '0123456789abcdef'] },
        { toolchain: '/opt/ModelLink' },
      ],
      [
        'a missing package',
        'python',
        'fail',
        /missing: torch_npu/,
        { python: [0, 'python 3.8.18\ntorch 2.1.0\ntorch_npu -'] },
        { pythonPackages: ['torch', 'torch_npu'] },
      ],
      [
        'all packages',
        'python',
        'ok',
        /torch_npu 2\.1\.0\.post3/,
        { python: [0, 'python 3.8.18\ntorch_npu 2.1.0.post3'] },
        { pythonPackages: ['torch_npu'] },
      ],
    ],
  )('tells %s', (_, name, state, seen, sections, wanted) => {
    const found = check(name, sections, wanted)
    expect(found).toMatchObject({ state, seen: expect.stringMatching(seen) })
    expect(found?.advice === undefined).toBe(state === 'ok')
  })

  it('names the commands that put it right, and no commands where it is right', () => {
    const wanted = { image, containerUid: 1000, network: 'host' as const }
    expect(check('image', { image: [1, ''] }, wanted)?.fix).toEqual([['docker', 'pull', image]])
    expect(check('image', { image: [0, 'sha256:1f'] }, wanted)?.fix).toBeUndefined()
    expect(check('metadataHost', hasDocker, wanted)?.fix).toEqual([
      [
        ...['iptables', '-w', '-I', 'OUTPUT', '-m', 'owner', '--uid-owner', '1000'],
        ...['-d', '169.254.169.254', '-j', 'REJECT'],
      ],
    ])
  })

  it.each(['', 'host 0\nnot a section', '\toutput before a section'])('refuses a report that is torn (%j)', content => {
    expect(() => readProbe('node-0.txt', content)).toThrow('node-0.txt: expected')
  })
})
