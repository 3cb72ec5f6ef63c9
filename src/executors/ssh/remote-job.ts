import { quoteWord } from '../../flow/launch.ts'

/** Where a job lies on its hosts. */
export interface RemotePlace {
  /** Folder of all jobs, absolute or from the user's home. */
  readonly root: string
  /** The job's folder in it. */
  readonly job: string
}

export interface RemoteCommand {
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly dir?: string | undefined
}

/**
 * Shell functions about the processes of `$job`, to be used in its folder: those of the group whose leader `process`
 * names (pid, start time, boot), and those of other groups that carry the job's mark in their environment, as the
 * workers of torchrun do. Zombies count as gone. Source of the fields: proc(5).
 */
const functions = `
identity() {
  { read -r stat < "/proc/$1/stat"; } 2>/dev/null || return 1
  set -- "$1" \${stat##*") "}
  [ "$2" != Z ] && [ "$2" != X ] || return 1
  read -r boot < /proc/sys/kernel/random/boot_id
  echo "$1 \${21} $boot"
}
lives() {
  { read -r leader since < process; } 2>/dev/null || return 1
  [ "$(identity "$leader")" = "$leader $since" ]
}
members() {
  { grep -lF "ASCENDFLOW_JOB=$job" /proc/[0-9]*/environ | sed 's,/proc/\\([0-9]*\\)/.*,\\1,'; } 2>/dev/null
  { read -r leader since < process; } 2>/dev/null || return 0
  read -r boot < /proc/sys/kernel/random/boot_id
  [ "\${since##* }" = "$boot" ] || return 0
  now=$(identity "$leader") && [ "$now" != "$leader $since" ] && return 0
  for file in /proc/[0-9]*/stat; do
    { read -r stat < "$file"; } 2>/dev/null || continue
    set -- "\${stat%% *}" \${stat##*") "}
    if [ "$4" = "$leader" ] && [ "$2" != Z ] && [ "$2" != X ]; then echo "$1"; fi
  done
}
signal() {
  for pid in $(members); do [ "$pid" = $$ ] || kill -s "$1" "$pid" 2>/dev/null; done
}`

/** Braces make a shell read the whole text before it does anything: one that was cut off does nothing. */
const script = ({ root, job }: RemotePlace, body: string): string =>
  `{\nroot=${quoteWord(root)} job=${quoteWord(job)}\n${body}\nexit\n}\n`

/**
 * Starts the job unless it was: of all who ask, the one whose `mkdir` succeeds does. The command is given in a file that
 * removes itself, so that no list of processes shows its environment; its leader is a session of its own.
 */
export function startScript(place: RemotePlace, command: RemoteCommand): string {
  return script(
    place,
    `trap '' HUP PIPE
mask=$(umask)
umask 077
mkdir -p "$root" && cd "$root" || exit 3
if mkdir "$job" 2>/dev/null; then
  cd "$job" || exit 3
  printf %s ${quoteWord(leaderScript(place, command))} > run || exit 3
  (umask "$mask"; ASCENDFLOW_JOB=$job exec setsid /bin/sh ./run < /dev/null > log 2>&1) &
else
  cd "$job" || exit 3
fi
tries=0
until [ -e process ] || [ $tries = 100 ]; do sleep 0.1; tries=$((tries + 1)); done`,
  )
}

/** The leader: writes down who it is, runs the command, ends what that left behind, and writes down how it ended. */
function leaderScript(place: RemotePlace, { argv, env, dir }: RemoteCommand): string {
  const exports = Object.entries(env).map(([name, value]) => `export ${name}=${quoteWord(value)}`)
  return script(
    place,
    `rm -f ./run
${functions}
identity $$ > process.new && mv process.new process
trap : HUP INT TERM
(
${exports.join('\n')}
${dir === undefined ? '' : `cd -- ${quoteWord(dir)} || exit 127`}
exec ${argv.map(quoteWord).join(' ')}
)
code=$?
signal KILL
signal KILL
echo $code > exit.new && mv exit.new exit`,
  )
}

/** Writes the job's output from byte `offset` on until the job has ended, and tells the end in a last line of stderr. */
export function followScript(place: RemotePlace, offset: number): string {
  return script(
    place,
    `cd "$root/$job" 2>/dev/null || { echo 'ascendflow: missing' >&2; exit; }
${functions}
at=${offset} turns=0
while :; do
  # First whether it lives, then how it ended, then its output: in this order nothing is missed.
  if lives; then state=alive; else state=gone; fi
  code=
  [ ! -e exit ] || read -r code < exit
  size=$(($(wc -c < log)))
  if [ "$size" -gt "$at" ]; then
    tail -c +$((at + 1)) log | head -c $((size - at)) || exit
    at=$size
  fi
  if [ -n "$code" ]; then echo "ascendflow: exit $code" >&2; exit; fi
  if [ $state = gone ]; then echo 'ascendflow: gone' >&2; exit; fi
  # Writing is how this shell learns that nobody listens any more.
  turns=$((turns + 1))
  [ $((turns % 20)) != 0 ] || echo . >&2 || exit
  sleep 0.1
done`,
  )
}

/** Ends all processes of the job: TERM, then KILL until none is left. Says on stdout whether there was an unfinished one. */
export function endScript(place: RemotePlace, graceMs: number): string {
  return script(
    place,
    `trap '' HUP PIPE
cd "$root/$job" 2>/dev/null || exit
${functions}
if [ ! -e exit ] && [ -n "$(members)" ]; then echo live; fi
signal TERM
turns=0
while [ -n "$(members)" ]; do
  [ $turns -lt ${Math.ceil(graceMs / 50)} ] || signal KILL
  turns=$((turns + 1))
  sleep 0.05
done`,
  )
}

/** Makes the folder into which files are copied, with the folders that are written in, and says where it lies. */
export function filesScript(place: RemotePlace, folders: readonly string[]): string {
  const made = folders.map(folder => `mkdir -p ${quoteWord(`.${folder}`)} || exit 3`)
  return script(
    place,
    `umask 077\nmkdir -p "$root/$job.files" && cd "$root/$job.files" || exit 3\n${made.join('\n')}\npwd -P`,
  )
}

/** Takes away all that the job has on a host. */
export function removeScript(place: RemotePlace): string {
  return script(place, 'cd "$root" 2>/dev/null && rm -rf "$job" "$job.files"')
}
