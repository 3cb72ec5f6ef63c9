import type { JobHandle } from '../../flow/executor.ts'
import type { SshHost } from './host.ts'
import type { RemotePlace } from './remote-job.ts'

/** What `submit` gives: all that another process needs to follow the job. */
export interface SshJob extends JobHandle {
  readonly dir: string
  /** One for each host, as some share their users' homes. */
  readonly places: readonly RemotePlace[]
  readonly hosts: readonly SshHost[]
  /** What comes back from the hosts when the job has ended, and the folder there under which it lies. */
  readonly fetched: readonly string[]
  readonly folders: readonly string[]
}
