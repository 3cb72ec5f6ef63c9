import { resolve } from 'node:path'
import { InputError } from '../../errors.ts'
import { type Launch, resolveWords } from '../../flow/launch.ts'
import { isShared } from './copied-files.ts'
import type { RemoteCommand } from './remote-job.ts'
import { hcclEnvironment, placeOf } from './rendezvous.ts'
import type { SshJob } from './ssh-job.ts'

export interface NodeCommandOptions {
  readonly job: Pick<SshJob, 'id' | 'hosts' | 'folders'>
  readonly rank: number
  readonly sharedRoots: readonly string[]
  readonly networkInterface?: string | undefined
  /** Environment of every job; the launch's own comes last. */
  readonly env?: Readonly<Record<string, string>> | undefined
}

/**
 * What node `rank` of a job runs: paths outside of shared folders as they lie below the job's folder on that host.
 * @throws InputError for a variable that is no name.
 */
export function nodeCommand(launch: Launch, options: NodeCommandOptions): RemoteCommand {
  const { job, rank, sharedRoots, networkInterface } = options
  const env = { ...hcclEnvironment(job.hosts, { rank, networkInterface }), ...options.env, ...launch.env }
  for (const variable of Object.keys(env))
    if (!/^[A-Za-z_]\w*$/.test(variable))
      throw new InputError(`ssh: ${JSON.stringify(variable)} is no name of an environment variable.`)
  const seen = (path: string) =>
    isShared(resolve(path), sharedRoots) ? resolve(path) : `${job.folders[rank]}${resolve(path)}`
  return { argv: resolveWords(launch.argv, placeOf(job.hosts, { rank, id: job.id }), seen), env, dir: launch.dir }
}
