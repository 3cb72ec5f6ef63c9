import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isFlowError } from '../../errors.ts'
import type { Executor, JobHandle, JobUpdate } from '../../flow/executor.ts'
import { quoteWord } from '../../flow/launch.ts'
import { isAlive, type ProcessIdentity, processIdentity } from '../../process-identity.ts'
import { claimFile } from '../claim-file.ts'
import { jobName } from '../job-name.ts'
import { isKept, keptUpdates } from '../kept-updates.ts'
import { createLineCutter } from '../log-lines.ts'
import { containerCommand, type DockerOptions } from './container-command.ts'
import { type ContainerState, type DockerClient, dockerClient } from './docker-client.ts'

const name = 'docker'

interface DockerJob extends JobHandle {
  readonly dir: string
  readonly container: string
}

/**
 * Runs jobs in containers of this machine, with its NPUs, through the docker client. What a launch reads and writes is
 * mounted under the same paths. A container outlives this process; it goes when its end and output lie in the job's folder.
 */
export function docker(options: DockerOptions): Executor {
  const client = dockerClient(options.client ?? 'docker')

  return {
    name,
    maxNodes: 1,
    ...(options.devicesPerNode === undefined ? {} : { devicesPerNode: options.devicesPerNode }),
    describe: launch => ['docker', ...containerCommand(launch, options, 'JOB').args].map(quoteWord).join(' '),

    async submit(launch, { id, logDir, signal }) {
      const container = jobName(id, logDir)
      const job = { executor: name, id, dir: logDir, container } satisfies DockerJob
      if (isKept(logDir)) return job
      const { args, env, mounts } = containerCommand(launch, options, container)
      for (const { path, readOnly } of mounts)
        if (!readOnly && !existsSync(path)) await mkdir(path, { recursive: true })
      // The name is the job's own: a container that has it already is of a submission whose answer was lost.
      await client.must(id, args, env).catch(async error => {
        if (!isFlowError(error) || error.code !== 'job-failed' || !(await client.inspect(container))) throw error
      })
      await startOnce(client, job, signal)
      return job
    },

    async *watch(job, { signal }) {
      const { dir, container } = job as DockerJob
      yield* keptUpdates({
        dir,
        updates: () => follow(client, job as DockerJob, signal),
        release: async () => {
          if (!options.keep) await client.run(['rm', container])
        },
      })
    },

    async cancel(job) {
      const { dir, container } = job as DockerJob
      if (isKept(dir)) return
      const state = await client.inspect(container)
      if (state && !hasEnded(state)) {
        await writeFile(cancelMark(dir), '')
        if (state.Status === 'created') await client.must(job.id, ['rm', '--force', container])
        else
          await client.must(job.id, [
            'stop',
            '-t',
            String(Math.ceil((options.killAfterMs ?? 10_000) / 1000)),
            container,
          ])
      }
      const { signal } = new AbortController()
      for await (const _ of this.watch(job, { signal }));
    },
  }
}

const cancelMark = (dir: string): string => join(dir, 'cancelled')

/** Docker starts an ended container again when asked: so only one asks, or who finds that one dead before it could. */
async function startOnce(client: DockerClient, { id, dir, container }: DockerJob, signal: AbortSignal): Promise<void> {
  const claim = join(dir, 'starter.json')
  if (!claimFile(claim, JSON.stringify(processIdentity()))) {
    for (;;) {
      const state = await client.inspect(container)
      if (!state || hasEnded(state) || state.Status !== 'created') return
      const starter = await readFile(claim, 'utf8').catch(() => undefined)
      if (starter === undefined || !isAlive(JSON.parse(starter) as ProcessIdentity)) break
      await sleep(50, undefined, { signal })
    }
  }
  try {
    await client.must(id, ['start', container])
  } catch (error) {
    // What docker says of a command that cannot be started is how the job ended.
    const state = await client.inspect(container)
    if (state && hasEnded(state)) return
    await rm(claim, { force: true })
    throw error
  }
}

async function* follow(client: DockerClient, job: DockerJob, signal: AbortSignal): AsyncGenerator<JobUpdate> {
  const { dir, container } = job
  const cutter = createLineCutter()
  let offset = 0
  async function* lines(follow: boolean): AsyncGenerator<JobUpdate> {
    for await (const bytes of client.logs(container, { follow, offset, signal })) {
      offset += bytes.length
      for (const line of cutter.push(bytes)) yield { type: 'log', line }
    }
  }
  yield { type: 'state', state: 'running' }
  for (;;) {
    yield* lines(true)
    const state = await client.inspect(container)
    if (!state || hasEnded(state)) {
      // Following ends with the daemon's connection too: what came after is read once the end is known.
      if (state) yield* lines(false)
      if (cutter.rest()) yield { type: 'log', line: cutter.rest() }
      return yield endState(state, { isCancelled: existsSync(cancelMark(dir)), isSilent: offset === 0 })
    }
    await sleep(200, undefined, { signal })
  }
}

/** A container that could not be started stays `created`, with an error. */
function hasEnded(state: ContainerState): boolean {
  return state.Status === 'exited' || state.Status === 'dead' || (state.Status === 'created' && state.Error !== '')
}

function endState(
  state: ContainerState | undefined,
  { isCancelled, isSilent }: { readonly isCancelled: boolean; readonly isSilent: boolean },
): JobUpdate {
  if (isCancelled) return { type: 'state', state: 'cancelled' }
  if (!state) return { type: 'state', state: 'lost', reason: 'its container is gone and left no exit status' }
  const reason = state.OOMKilled
    ? 'out of memory: killed by the kernel (OOMKilled)'
    : state.Error || (state.ExitCode === 127 && isSilent ? 'nothing was started: has the image a /bin/sh?' : '')
  return {
    ...{ type: 'state', state: state.ExitCode === 0 && !reason ? 'succeeded' : 'failed', exitCode: state.ExitCode },
    ...(reason ? { reason } : {}),
  }
}
