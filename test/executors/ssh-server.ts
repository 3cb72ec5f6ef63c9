import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { appendFileSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Why no OpenSSH server can be started here; undefined when it can. */
export function missingServer(): string | undefined {
  if (process.platform !== 'linux') return 'jobs over ssh run on Linux hosts'
  if (!existsSync(sshd)) return 'needs an OpenSSH server: apt-get install openssh-server'
  return undefined
}

/** An OpenSSH server of this test's own, with keys and files in `dir`, which this user may log in to. */
export interface SshServer {
  readonly host: { readonly name: string; readonly port: number }
  readonly options: { readonly identityFile: string; readonly knownHostsFile: string }
  /** Ends the server and all its sessions at once, as a crash would. */
  stop(): Promise<void>
  start(): Promise<void>
  /** Kills everything of an isolated host at once, jobs and server, as a loss of power would; `start` brings it back. */
  crash(): Promise<void>
  /** Ends the sessions and leaves the server: what a cut line looks like from both sides. Gives their number. */
  cut(): number
}

const sshd = '/usr/sbin/sshd'

/** In a network `namespace`, or `isolated` with processes of its own that all end with it. */
export async function sshServer(
  dir: string,
  { address = '127.0.0.1', namespace = '', keysOf = '', isolated = false } = {},
): Promise<SshServer> {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  if (userInfo().uid === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
  const file = (name: string) => join(dir, name)
  // Another server of the same user: its keys, and both hosts known in one file.
  if (keysOf)
    for (const key of ['host_key', 'user_key'])
      for (const end of ['', '.pub']) copyFileSync(join(keysOf, key + end), file(key + end))
  for (const key of keysOf ? [] : ['host_key', 'user_key'])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', file(key)])
  const port = namespace ? 22 : await freePort(address)
  writeFileSync(file('authorized_keys'), readFileSync(file('user_key.pub')), { mode: 0o600 })
  appendFileSync(
    keysOf ? join(keysOf, 'known_hosts') : file('known_hosts'),
    `${port === 22 ? address : `[${address}]:${port}`} ${readFileSync(file('host_key.pub'), 'utf8')}`,
  )
  writeFileSync(
    file('sshd_config'),
    [
      ...[`ListenAddress ${address}`, `Port ${port}`, `HostKey ${file('host_key')}`],
      ...[`AuthorizedKeysFile ${file('authorized_keys')}`, 'PidFile none'],
      ...['StrictModes no', 'UsePAM no', 'PermitRootLogin yes', 'PasswordAuthentication no', 'MaxStartups 100'],
      // The start-up files of whoever runs the tests are not what is tested.
      `SetEnv HOME=${dir}`,
    ].join('\n'),
  )
  let child: ChildProcess | undefined
  const gone = async () => {
    while (await answers(address, port)) await sleep(10)
  }
  const server: SshServer = {
    host: { name: address, port },
    options: {
      identityFile: file('user_key'),
      knownHostsFile: keysOf ? join(keysOf, 'known_hosts') : file('known_hosts'),
    },
    start: async () => {
      const words = [
        // A test that is killed takes its server along.
        ...['setpriv', '--pdeathsig', 'KILL'],
        ...(namespace ? ['ip', 'netns', 'exec', namespace] : []),
        ...(isolated ? ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'] : []),
        ...[sshd, '-D', '-e', '-f', file('sshd_config')],
      ]
      child = spawn(words[0]!, words.slice(1), { stdio: 'ignore', detached: true })
      child.unref()
      while (!(await answers(address, port))) await sleep(10)
    },
    stop: async () => {
      server.cut()
      kill(child!.pid!)
      await gone()
    },
    crash: async () => {
      kill(child!.pid!)
      await gone()
    },
    cut: () => {
      const sessions = sshdDescendants(isolated ? childOf(child!.pid!) : child!.pid!)
      for (const session of sessions) kill(session)
      return sessions.length
    },
  }
  await server.start()
  return server
}

/** The first process of an isolated host. */
function childOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0])
}

/** Processes named sshd below `pid`: those of sessions, and not what runs in them. */
function sshdDescendants(pid: number): readonly number[] {
  const all = readdirSync('/proc')
    .filter(entry => /^\d+$/.test(entry))
    .flatMap(entry => {
      try {
        const stat = readFileSync(`/proc/${entry}/stat`, 'latin1')
        const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
        return stat.includes('(sshd)') ? [{ pid: Number(entry), parent }] : []
      } catch {
        return []
      }
    })
  const below = (parent: number): number[] =>
    all.filter(one => one.parent === parent).flatMap(one => [one.pid, ...below(one.pid)])
  return below(pid)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}

function freePort(address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject)
    server.listen(0, address, () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

function answers(host: string, port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ host, port })
    socket.on('data', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
    socket.on('close', () => resolve(false))
  })
}
