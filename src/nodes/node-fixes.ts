import type { NodeCheck, WantedNode } from './node-report.ts'

type Fixable = 'docker' | 'ipForward' | 'image' | 'metadataBridge' | 'metadataHost' | 'shared'
type Argv = readonly string[]

/** Address of the cloud's metadata service, which hands out the node's credentials. */
export const metadataAddress = '169.254.169.254'

/**
 * The commands that put a check right, where it can be put right by a command.
 *
 * Sources: the vendor's DevServer guides (docker, ip_forward, pull); Huawei Cloud's page on metadata for DOCKER-USER. The
 * guide's `sed` changes nothing where /etc/sysctl.conf has no such line; this one puts one line in place of all.
 */
export function nodeFixes(wanted: WantedNode): { readonly [name in Fixable]?: readonly Argv[] } {
  const { image, shared, containerUid, dockerPackages } = wanted
  const setting = 'net.ipv4.ip_forward=1'
  const rule = ['-d', metadataAddress, '-j', 'REJECT']
  return {
    docker: [
      ['yum', 'install', '-y', ...dockerPackages],
      ['systemctl', 'enable', '--now', 'docker'],
    ],
    ipForward: [
      ['sysctl', '-w', setting],
      [
        'sed',
        '-i',
        '-E',
        '-e',
        `$a ${setting}`,
        '-e',
        '/^[[:space:]]*net\\.ipv4\\.ip_forward[[:space:]]*=/d',
        '/etc/sysctl.conf',
      ],
    ],
    ...(image === undefined ? {} : { image: [['docker', 'pull', image]] }),
    metadataBridge: [['iptables', '-w', '-I', 'DOCKER-USER', ...rule]],
    ...(containerUid === undefined
      ? {}
      : {
          metadataHost: [
            ['iptables', '-w', '-I', 'OUTPUT', '-m', 'owner', '--uid-owner', String(containerUid), ...rule],
          ],
        }),
    ...(shared === undefined ? {} : { shared: [['mkdir', '-p', shared]] }),
  }
}

/** The check with the commands that put it right, if it is not right and there are some. */
export function withFix(check: NodeCheck, wanted: WantedNode): NodeCheck {
  const fix = nodeFixes(wanted)[check.name as Fixable]
  return check.state === 'ok' || !fix ? check : { ...check, fix: fix.map(argv => [...argv]) }
}
