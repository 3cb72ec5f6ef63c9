import { existsSync, readdirSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { InputError, JobError, UnsupportedError } from '../../errors.ts'
import type { Launch } from '../../flow/launch.ts'
import type { SshHost } from './host.ts'
import type { SshClient } from './ssh-client.ts'

/** What has to be copied for a launch, as absolute paths of this machine. */
export interface CopiedFiles {
  /** Sent to every node. Written paths that are there already (an earlier attempt's) are too. */
  readonly sent: readonly string[]
  /** Fetched from every node when the job has ended, with all siblings whose names begin like theirs. */
  readonly fetched: readonly string[]
}

/**
 * The paths of a launch that do not lie in a shared folder.
 * @throws InputError for one that is to be read and is not there.
 */
export function copiedFiles(launch: Launch, sharedRoots: readonly string[]): CopiedFiles {
  const isCopied = (path: string) => !isShared(path, sharedRoots)
  const read = launch.argv.flatMap(word => (typeof word === 'object' && 'read' in word ? [resolve(word.read)] : []))
  const written = launch.argv.flatMap(word =>
    typeof word === 'object' && 'write' in word ? [resolve(word.write)] : [],
  )
  return {
    sent: [...new Set([...read.filter(isCopied).flatMap(readPaths), ...written.filter(isCopied).flatMap(named)])],
    fetched: [...new Set(written.filter(isCopied))],
  }
}

/** True for paths that hosts see as this machine does. */
export function isShared(path: string, sharedRoots: readonly string[]): boolean {
  return sharedRoots.map(root => resolve(root)).some(root => path === root || path.startsWith(root + sep))
}

/** Sends files into `folder` of a host, each under its whole path. */
export async function sendFiles(client: SshClient, host: SshHost, copy: Copy): Promise<void> {
  if (copy.paths.length === 0) return
  const sources = copy.paths.map(path => `/.${path}`)
  await rsync(client, host, copy.job, [
    '--relative',
    '--no-implied-dirs',
    '--',
    ...sources,
    target(host, `${copy.folder}/`),
  ])
}

/** Fetches what `folder` of a host has of the paths, and of siblings whose names begin like theirs. */
export async function fetchFiles(client: SshClient, host: SshHost, copy: Copy): Promise<void> {
  for (const path of copy.paths) {
    const wanted = basename(path).replaceAll(/[\\*?[]/g, '\\$&')
    const filters = [`--include=/${wanted}*`, `--include=/${wanted}*/**`, '--exclude=*']
    await mkdir(dirname(path), { recursive: true })
    await rsync(client, host, copy.job, [
      ...filters,
      '--',
      target(host, `${copy.folder}${dirname(path)}/`),
      `${dirname(path)}/`,
    ])
  }
}

export interface Copy {
  readonly job: string
  readonly folder: string
  readonly paths: readonly string[]
}

async function rsync(client: SshClient, host: SshHost, job: string, words: readonly string[]): Promise<void> {
  const { execa } = await import('execa')
  const shell = ['ssh', ...(await client.words(host))].map(rsyncWord).join(' ')
  const result = await execa('rsync', ['--archive', '--protect-args', '--rsh', shell, ...words], {
    ...{ reject: false, stdin: 'ignore' },
  })
  if (result.code === 'ENOENT')
    throw new UnsupportedError('ssh: files have to be copied, and there is no rsync on this machine.', {
      hint: "Install rsync here and on the hosts, or name a folder that all see as 'sharedRoot'.",
    })
  if (result.exitCode !== 0)
    throw new JobError(`ssh ${host.name}: rsync ended with exit code ${result.exitCode}: ${result.stderr.trim()}`, {
      // 10 to 12, 30, 35 and 255 are those of connections (rsync(1)).
      ...{ executor: 'ssh', job, logTail: [], retryable: [10, 11, 12, 30, 35, 255].includes(result.exitCode ?? 0) },
    })
}

/** rsync splits the words of its remote shell at blanks, outside of quotes; a doubled quote stands for itself. */
const rsyncWord = (word: string): string => `'${word.replaceAll("'", "''")}'`

const target = (host: SshHost, path: string): string =>
  `${host.name.includes(':') ? `[${host.name}]` : host.name}:${path}`

function readPaths(path: string): readonly string[] {
  const paths = named(path)
  if (paths.length > 0) return paths
  throw new InputError(`ssh: ${path} is to be read, and neither it nor a file whose name begins so is there.`, {
    hint: "Folders that hosts have and this machine has not belong into 'sharedRoot'.",
  })
}

/** The path itself, or the files whose names begin with it, as Megatron names datasets. */
function named(path: string): readonly string[] {
  if (existsSync(path)) return [path]
  if (!existsSync(dirname(path))) return []
  return readdirSync(dirname(path))
    .filter(name => name.startsWith(basename(path)))
    .map(name => join(dirname(path), name))
}
