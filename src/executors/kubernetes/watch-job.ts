import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JobUpdate } from '../../flow/executor.ts'
import { interleave, type Producing } from '../interleave.ts'
import type { ClusterClient } from './cluster-client.ts'
import { type KubernetesJob, podsPath, readJob, readPod, readPods } from './cluster-job.ts'
import { followPodLog } from './follow-pod-log.ts'
import { hasEnded, hasStarted, jobState, type Pod, podHasEnded, rankOf, type StateUpdate } from './job-status.ts'
import { noteMachine } from './machines.ts'
import { taskName } from './volcano-job.ts'

export interface WatchOptions {
  readonly client: ClusterClient
  readonly job: KubernetesJob
  readonly signal: AbortSignal
  readonly pollMs: number
  /** How long pods of an ended job are waited for: on a node that is gone they may never end. */
  readonly patienceMs: number
}

/** Lines of all pods of the job, from the first on, and its states, until it has ended and its logs are told. */
export function watchJob(options: WatchOptions): AsyncIterable<JobUpdate> {
  return interleave<JobUpdate>(options.signal, producing => followJob(options, producing))
}

async function followJob(options: WatchOptions, producing: Producing<JobUpdate>): Promise<void> {
  const { client, job, pollMs, patienceMs } = options
  const { give, signal } = producing
  // Pods of an ended job may be gone already: what was last seen of them tells how it ended.
  const seen = new Map<string, Pod>()
  const logs = followLogs(options, { producing, seen })
  let told = ''
  let endedAt: number | undefined
  for (;;) {
    const found = await readJob(client, job, signal)
    const pods = found ? await readPods(client, job, signal) : []
    for (const pod of pods) {
      seen.set(pod.metadata.uid, pod)
      await noteMachine(job, pod)
      if (hasStarted(pod)) logs.follow(pod)
    }
    const all = [...seen.values()].sort((a, b) => rankOf(a) - rankOf(b))
    const state = found ? jobState(found, all) : gone
    if (hasEnded(state)) {
      endedAt ??= Date.now()
      const isQuiet = logs.areTold() && pods.every(podHasEnded)
      if (isQuiet || Date.now() - endedAt > patienceMs) {
        const cut = logs.stop()
        const left = pods.filter(pod => !podHasEnded(pod)).map(pod => `node ${rankOf(pod)} has not stopped yet`)
        const end: StateUpdate = (await wasCancelled(job)) && state.state !== 'succeeded' ? cancelled : state
        return give(withRemarks(end, [...cut, ...left]))
      }
    } else if (JSON.stringify(state) !== told) {
      told = JSON.stringify(state)
      await give(state)
    }
    await sleep(pollMs, undefined, { signal })
  }
}

/** Follows the log of each pod that it is told of, once. */
function followLogs(
  { client, job, pollMs }: WatchOptions,
  { producing, seen }: { readonly producing: Producing<JobUpdate>; readonly seen: Map<string, Pod> },
) {
  const stopped = new AbortController()
  const signal = AbortSignal.any([producing.signal, stopped.signal])
  const followed = new Map<string, { readonly node: number; state: 'following' | 'told' | 'cut' }>()
  const follow = async ({ metadata: { name, uid } }: Pod, node: number): Promise<boolean> => {
    const path = `${podsPath(job)}/${name}`
    return followPodLog({
      ...{ client, path, container: taskName, signal, pollMs },
      hasEnded: async () => {
        const now = await readPod(client, { path, uid, signal })
        if (now) seen.set(uid, now)
        return !now || podHasEnded(now)
      },
      tell: line => producing.give({ type: 'log', line, node }),
    })
  }
  return {
    areTold: () => [...followed.values()].every(({ state }) => state !== 'following'),
    follow: (pod: Pod) => {
      if (followed.has(pod.metadata.uid)) return
      const log = { node: rankOf(pod), state: 'following' as 'following' | 'told' | 'cut' }
      followed.set(pod.metadata.uid, log)
      producing.spawn(async () => {
        try {
          log.state = (await follow(pod, log.node)) ? 'told' : 'cut'
        } catch (error) {
          if (!stopped.signal.aborted) throw error
        }
      })
    },
    /** Gives up on logs that are still to come, and says whose. */
    stop: (): readonly string[] => {
      stopped.abort()
      const cut = [...followed.values()].filter(({ state }) => state !== 'told')
      return cut.map(({ node }) => `the end of the log of node ${node} could not be read`)
    },
  }
}

const cancelled: StateUpdate = { type: 'state', state: 'cancelled' }
const gone: StateUpdate = { type: 'state', state: 'lost', reason: 'it was deleted from the cluster' }

/** Notes in the job's folder that a job which will not be in the cluster any more was cancelled, not lost. */
export async function noteCancelled({ dir }: KubernetesJob): Promise<void> {
  await writeFile(join(dir, 'cancelled'), '').catch(() => {})
}

async function wasCancelled({ dir }: KubernetesJob): Promise<boolean> {
  return (await readFile(join(dir, 'cancelled')).catch(() => undefined)) !== undefined
}

function withRemarks(state: StateUpdate, remarks: readonly string[]): StateUpdate {
  const reason = [state.reason, ...remarks].filter(Boolean).join('; ')
  return reason === '' ? state : { ...state, reason }
}
