import { quoteWord } from '../flow/launch.ts'
import { nodeFixes } from './node-fixes.ts'
import type { WantedNode } from './node-report.ts'

/**
 * A POSIX shell script that looks at a node and writes what it saw to `$1/node-$2.txt`: `$2` is the node's rank, `$3` the
 * number of nodes. With `fix` it first runs the commands of `nodeFixes` for what needs them; otherwise it changes nothing.
 *
 * The file has for each command a line `name exit-code` and its output, each line behind a tab. Every command has a time
 * limit.
 */
export function probeScript(wanted: WantedNode, { fix }: { readonly fix: boolean }): string {
  return [preamble, ...(fix ? fixes(wanted) : []), ...looks(wanted, { fix }), ending].join('\n')
}

const preamble = `
umask 022
mkdir -p "$1" || exit 1
out="$1/node-$2.txt"; rank=$2; count=$3
exec 3>"$out.part" || exit 1
quiet() { "$@" >/dev/null 2>&1; }
quiet command -v timeout || timeout() { shift; "$@"; }
tab=$(printf '\\t')
section() {
  name=$1; shift
  text=$("$@" 2>&1); code=$?
  printf '%s %s\\n' "$name" "$code" >&3
  if [ -n "$text" ]; then printf '%s\\n' "$text" | sed "s/^/$tab/" >&3; fi
}`.trim()

const ending = `
exec 3>&-
mv "$out.part" "$out"
sed "s/^/node $rank: /" "$out"`.trim()

const lookSeconds = 30
const fixSeconds = 1800
/** How long nodes wait for each other in the shared folder. */
const meetSeconds = 60

function looks(wanted: WantedNode, { fix }: { readonly fix: boolean }): string[] {
  const { image, shared, toolchain, python, pythonPackages, disks } = wanted
  const look = (name: string, ...argv: readonly string[]) =>
    `section ${name} timeout ${lookSeconds} ${argv.map(quoteWord).join(' ')}`
  const inShared = (name: string, script: string, seconds: number) =>
    `section ${name} timeout ${seconds + lookSeconds} sh -c ${quoteWord(script)} ${quoteWord(shared!)} "$rank" "$count" ${seconds}`
  // Where things are put right, one node may be busy for long before it comes.
  const patience = fix ? fixSeconds : meetSeconds
  return [
    look('host', 'uname', '-nm'),
    look('date', 'date', '+%s'),
    look('ntp', 'timedatectl', 'show', '-p', 'NTPSynchronized', '--value'),
    look('chrony', 'chronyc', '-n', 'tracking'),
    look('npu-smi', 'npu-smi', 'info'),
    look('davinci', 'sh', '-c', 'ls /dev | grep -E "^davinci[0-9]+$"'),
    look('driver', 'cat', '/usr/local/Ascend/driver/version.info'),
    look('docker', 'docker', '-v'),
    look('docker-server', 'docker', 'version', '--format', '{{.Server.Version}}'),
    look('ip-forward', 'cat', '/proc/sys/net/ipv4/ip_forward'),
    look('docker-user', 'iptables', '-w', '-S', 'DOCKER-USER'),
    look('output', 'iptables', '-w', '-S', 'OUTPUT'),
    ...(image === undefined ? [] : [look('image', 'docker', 'image', 'inspect', '--format', '{{.Id}}', image)]),
    ...disks.map(({ path }, i) => look(`disk-${i}`, 'df', '-Pk', path)),
    ...(shared === undefined ? [] : [inShared('shared', meet, patience), inShared('shared-clock', serverClock, 0)]),
    ...(toolchain === undefined
      ? []
      : [
          look('toolchain', 'ls', `${toolchain}/pretrain_gpt.py`),
          look('commit', 'git', '-C', toolchain, 'rev-parse', 'HEAD'),
        ]),
    ...(pythonPackages.length === 0 ? [] : [look('python', python, '-c', listVersions, ...pythonPackages)]),
  ]
}

const listVersions = `
import sys
from importlib.metadata import version, PackageNotFoundError
print("python", sys.version.split()[0])
for name in sys.argv[1:]:
    try: print(name, version(name))
    except PackageNotFoundError: print(name, "-")`.trim()

/**
 * `$0` is the shared folder: all nodes leave a file there and wait for those of the others, so that a folder that is not
 * the same everywhere is found out. A second round lets nobody take its file away before all have seen it.
 */
const meet = `
rank=$1; count=$2
limit=$(( $(date +%s) + $3 ))
for round in 1 2; do
  echo "$rank" > "$0/.ascendflow-$round-$rank" || exit 1
  while :; do
    here=$(find "$0" -maxdepth 1 -name ".ascendflow-$round-*" -mmin -60 | wc -l)
    [ "$here" -ge "$count" ] && break
    [ "$(date +%s)" -ge "$limit" ] && break
    sleep 1
  done
  [ "$round" = 1 ] && seen=$((here))
done
[ "$count" -gt 1 ] && sleep 3
rm -f "$0/.ascendflow-1-$rank" "$0/.ascendflow-2-$rank"
echo "$seen of $count"
[ "$seen" -ge "$count" ]`.trim()

/** The time that the file server of `$0` gives to a new file, between two times of the node. */
const serverClock = `
file="$0/.ascendflow-clock-$1"
before=$(date +%s); echo > "$file" || exit 1; after=$(date +%s)
stamp=$(stat -c %Y "$file"); rm -f "$file"
echo "$before $stamp $after"`.trim()

/** For each check that commands can put right: when they are needed, and the commands. */
function fixes(wanted: WantedNode): string[] {
  const { image, network, shared } = wanted
  const made = nodeFixes(wanted)
  // `-C` asks for the very rule that `-I` would add.
  const asked = (name: 'metadataBridge' | 'metadataHost') =>
    (made[name]?.[0] ?? []).map(word => quoteWord(word === '-I' ? '-C' : word)).join(' ')
  const needed: Readonly<Record<string, string | undefined>> = {
    docker: '! docker version',
    ipForward: 'test "$(cat /proc/sys/net/ipv4/ip_forward)" != 1',
    image: image && `! docker image inspect ${quoteWord(image)}`,
    metadataBridge: network === 'bridge' ? `iptables -w -S DOCKER-USER && ! ${asked('metadataBridge')}` : undefined,
    metadataHost: network === 'host' ? `! ${asked('metadataHost')}` : undefined,
    shared: shared && `! test -d ${quoteWord(shared)}`,
  }
  return Object.entries(made).flatMap(([name, commands]) => {
    const condition = needed[name]
    if (condition === undefined) return []
    const run = commands.map(argv => `  section fix-${name} timeout ${fixSeconds} ${argv.map(quoteWord).join(' ')}`)
    return [`if quiet eval ${quoteWord(condition)}; then`, ...run, 'fi']
  })
}
