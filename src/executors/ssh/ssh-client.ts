import { createHash } from 'node:crypto'
import { lstat, mkdir } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { InputError, JobError, UnsupportedError } from '../../errors.ts'
import type { SshHost } from './host.ts'

export interface SshClientOptions {
  /** Private key; absent: what the user's configuration and agent offer. */
  readonly identityFile?: string
  /** File with the hosts' public keys, used instead of the user's own and the system's. */
  readonly knownHostsFile?: string
  /**
   * How long a host may be out of reach before its part of a job is given up, in ms; default 600,000. Hosts give signs of
   * life every two seconds.
   */
  readonly lostAfterMs?: number
}

export type SshClient = ReturnType<typeof sshClient>

const firstDelayMs = 200
const longestDelayMs = 10_000

/** OpenSSH's client: hosts whose key is not known are refused, nothing is asked, connections are shared and reused. */
export function sshClient(options: SshClientOptions) {
  const lostAfterMs = options.lostAfterMs ?? 600_000

  /** Starts `/bin/sh` on a host with `script` as its input; its output is left to the caller unless `buffer` is true. */
  const start = async (
    host: SshHost,
    script: string,
    { buffer, signal }: { buffer: boolean; signal?: AbortSignal },
  ) => {
    const { execa } = await import('execa')
    const child = execa('ssh', [...(await connectionWords(options, host)), '--', host.name, '/bin/sh'], {
      ...{ input: script, reject: false, buffer: { stdout: buffer, stderr: true } },
      ...(signal ? { cancelSignal: signal } : {}),
    })
    return { child }
  }

  /**
   * Runs a script that may be run again, over as many connections as it takes, and gives what it printed.
   * @throws JobError when the host stays out of reach for `withinMs`, refuses us, or the script fails.
   */
  const run = async (
    host: SshHost,
    script: string,
    { job, withinMs = lostAfterMs, signal }: { job: string; withinMs?: number; signal?: AbortSignal },
  ): Promise<string> => {
    const deadline = Date.now() + withinMs
    for (let delayMs = firstDelayMs; ; delayMs = Math.min(2 * delayMs, longestDelayMs)) {
      const { child } = await start(host, script, { buffer: true, ...(signal ? { signal } : {}) })
      const result = await child
      signal?.throwIfAborted()
      if (result.exitCode === 0) return String(result.stdout)
      if (result.code === 'ENOENT') throw noClient()
      refuseForGood(host, job, result.stderr)
      if (result.exitCode !== 255) throw failure(host, job, `exit code ${result.exitCode}: ${result.stderr}`, false)
      if (Date.now() + delayMs > deadline) throw failure(host, job, result.stderr, true)
      await sleep(delayMs, undefined, { signal })
    }
  }
  return { start, run, lostAfterMs, words: (host: SshHost) => connectionWords(options, host) }
}

/** @throws JobError for what no later try would change: an unknown or changed host key, a refused login. */
export function refuseForGood({ name }: SshHost, job: string, stderr: string): void {
  const hint = /Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED/.test(stderr)
    ? `Put the key of ${name} into the known hosts, after checking it: ssh-keyscan shows the one that it offers.`
    : /Permission denied|Too many authentication failures/.test(stderr)
      ? `Log in with a key: try 'ssh -o BatchMode=yes ${name} true'.`
      : undefined
  if (hint)
    throw new JobError(`ssh ${name}: ${lastLine(stderr)}`, {
      ...{ executor: 'ssh', job, retryable: false, logTail: [], hint },
    })
}

function failure({ name }: SshHost, job: string, said: string, retryable: boolean): JobError {
  return new JobError(`ssh ${name}: ${lastLine(said)}`, { executor: 'ssh', job, retryable, logTail: [] })
}

const noClient = (): UnsupportedError =>
  new UnsupportedError('ssh: there is no OpenSSH client on this machine.', { hint: 'Install openssh-client.' })

const lastLine = (text: string): string => text.trim().split('\n').at(-1)?.trim() || 'the connection ended'

async function connectionWords(options: SshClientOptions, host: SshHost): Promise<readonly string[]> {
  const settings = [
    ...['BatchMode=yes', 'StrictHostKeyChecking=yes', 'ConnectTimeout=10', 'ClearAllForwardings=yes'],
    ...['ServerAliveInterval=10', 'ServerAliveCountMax=3', 'ForwardAgent=no', 'LogLevel=ERROR'],
    ...(options.identityFile ? [`IdentityFile=${pathValue(options.identityFile)}`, 'IdentitiesOnly=yes'] : []),
    ...(options.knownHostsFile
      ? [`UserKnownHostsFile=${pathValue(options.knownHostsFile)}`, 'GlobalKnownHostsFile=/dev/null']
      : []),
    ...(host.user === undefined ? [] : [`User=${host.user}`]),
    ...(host.port === undefined ? [] : [`Port=${host.port}`]),
  ]
  const socket = await socketPath(JSON.stringify([host.name, settings]))
  const shared = socket ? ['ControlMaster=auto', `ControlPath=${pathValue(socket)}`, 'ControlPersist=30'] : []
  return ['-T', ...[...settings, ...shared].flatMap(setting => ['-o', setting])]
}

/** A path as ssh_config reads it: in quotes, with `%` doubled. */
function pathValue(path: string): string {
  if (/["\n]/.test(path)) throw new InputError(`ssh: a path with quotes or line breaks cannot be given: ${path}`)
  return `"${path.replaceAll('%', '%%')}"`
}

/**
 * Where the shared connection of these settings listens, in a folder that only this user can enter. Undefined when the
 * name would be too long for a socket: then each command connects for itself.
 */
async function socketPath(settings: string): Promise<string | undefined> {
  const { uid } = userInfo()
  const folder = join(tmpdir(), `ascendflow-ssh-${uid}`)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const found = await lstat(folder)
  if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o077) !== 0)
    throw new UnsupportedError(`ssh: ${folder} is not a folder of ours alone, and connections would be shared there.`, {
      hint: 'Remove it.',
    })
  const path = join(folder, createHash('sha256').update(settings).digest('hex').slice(0, 16))
  // A socket's address holds 108 bytes, and OpenSSH appends 17 while it makes one.
  return path.length + 17 < 104 ? path : undefined
}
