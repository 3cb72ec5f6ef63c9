import { z } from 'zod'
import type { JobState, JobUpdate } from '../../flow/executor.ts'

/** The fields of a Volcano job that are read. */
export type VolcanoStatus = z.infer<typeof VolcanoStatus>
export const VolcanoStatus = z.object({
  metadata: z.object({
    name: z.string(),
    uid: z.string(),
    annotations: z.record(z.string(), z.string()).optional(),
  }),
  spec: z.object({ minAvailable: z.number().optional() }).optional(),
  status: z
    .object({
      state: z
        .object({ phase: z.string().optional(), reason: z.string().optional(), message: z.string().optional() })
        .optional(),
    })
    .optional(),
})

const Terminated = z.object({
  exitCode: z.number(),
  reason: z.string().optional(),
  message: z.string().optional(),
  finishedAt: z.string().nullish(),
})

/** The fields of a pod that are read. */
export type Pod = z.infer<typeof Pod>
export const Pod = z.object({
  metadata: z.object({ name: z.string(), uid: z.string(), labels: z.record(z.string(), z.string()).optional() }),
  spec: z.object({ nodeName: z.string().optional() }).optional(),
  status: z
    .object({
      phase: z.string().optional(),
      reason: z.string().optional(),
      message: z.string().optional(),
      conditions: z
        .array(
          z.object({
            type: z.string(),
            status: z.string(),
            reason: z.string().optional(),
            message: z.string().optional(),
          }),
        )
        .optional(),
      containerStatuses: z
        .array(
          z.object({
            state: z
              .object({
                waiting: z.object({ reason: z.string().optional(), message: z.string().optional() }).optional(),
                running: z.object({}).optional(),
                terminated: Terminated.optional(),
              })
              .optional(),
          }),
        )
        .optional(),
    })
    .optional(),
})

/** A state of a job, as an executor tells it. */
export type StateUpdate = Extract<JobUpdate, { type: 'state' }>

/**
 * What job and pods come to. A job ends as `lost`, and may be tried again, when a node, an eviction or a preemption
 * took a pod away; as `failed` when a program ended badly, with the exit code of the first that did.
 * Source of the phases: volcano-sh/apis 536f121f, pkg/apis/batch/v1alpha1/job.go.
 */
export function jobState({ spec, status }: VolcanoStatus, pods: readonly Pod[]): StateUpdate {
  const phase = status?.state?.phase || 'Pending'
  const state = stateOfPhase[phase]
  if (state === undefined || state === 'running') return { type: 'state', state: 'running' }
  if (state === 'pending') return withReason('pending', pods.map(whyPending).find(Boolean) ?? status?.state?.message)
  if (state === 'succeeded') return { type: 'state', state, exitCode: 0 }
  if (state === 'cancelled') return withReason(state, status?.state?.message ?? 'it was aborted in the cluster')
  return (
    howFailed(pods, spec?.minAvailable) ??
    withReason('lost', status?.state?.message ?? 'its pods are gone and left no exit status')
  )
}

const stateOfPhase: Readonly<Record<string, JobState>> = {
  Pending: 'pending',
  Running: 'running',
  Restarting: 'running',
  Aborting: 'running',
  Completing: 'running',
  Terminating: 'running',
  Completed: 'succeeded',
  Failed: 'failed',
  Terminated: 'failed',
  Aborted: 'cancelled',
}

/** Whether the job will not change any more. */
export function hasEnded({ state }: StateUpdate): boolean {
  return state !== 'pending' && state !== 'running'
}

/** Whether the pod's container runs, or has run. */
export function hasStarted(pod: Pod): boolean {
  const state = pod.status?.containerStatuses?.[0]?.state
  return state?.running !== undefined || state?.terminated !== undefined
}

/** Whether nothing of the pod runs any more. */
export function podHasEnded(pod: Pod): boolean {
  const { phase, containerStatuses } = pod.status ?? {}
  return phase === 'Succeeded' || phase === 'Failed' || containerStatuses?.[0]?.state?.terminated !== undefined
}

/** Place of the pod among the nodes of its job. */
export function rankOf(pod: Pod): number {
  return Number(pod.metadata.labels?.['volcano.sh/task-index'] ?? pod.metadata.name.split('-').at(-1))
}

const starting = ['ContainerCreating', 'PodInitializing']

function whyPending({ status }: Pod): string | undefined {
  const waiting = status?.containerStatuses?.[0]?.state?.waiting
  if (waiting?.reason && !starting.includes(waiting.reason)) return words(waiting.reason, waiting.message)
  const scheduled = status?.conditions?.find(({ type, status }) => type === 'PodScheduled' && status === 'False')
  return scheduled && words(scheduled.reason, scheduled.message)
}

/** Reasons in a pod's status for which its node, not its program, ended it. */
const taken = ['Evicted', 'Preempting', 'NodeLost', 'NodeShutdown', 'Shutdown', 'UnexpectedAdmissionError']

function howFailed(pods: readonly Pod[], nodes = 1): StateUpdate | undefined {
  for (const pod of pods) {
    const { reason, message, conditions } = pod.status ?? {}
    const disruption = conditions?.find(({ type, status }) => type === 'DisruptionTarget' && status === 'True')
    const why = disruption
      ? words(disruption.reason, disruption.message)
      : reason && taken.includes(reason)
        ? words(reason, message)
        : undefined
    if (why !== undefined) return { ...withReason('lost', at(pod, why)), ...node(pod, nodes) }
  }
  const [first] = pods
    .flatMap(pod => {
      const end = pod.status?.containerStatuses?.[0]?.state?.terminated
      return end && end.exitCode !== 0 ? [{ pod, end }] : []
    })
    .sort((a, b) => (a.end.finishedAt ?? '').localeCompare(b.end.finishedAt ?? ''))
  if (!first) return undefined
  const { pod, end } = first
  const said = end.reason === 'Error' ? end.message : words(end.reason, end.message)
  const reason = end.reason === 'OOMKilled' ? `${words(said)}: it used more memory than its limit` : said
  return {
    ...withReason('failed', nodes > 1 || reason ? at(pod, reason ?? 'failed first') : undefined),
    ...code(end),
    ...node(pod, nodes),
  }
}

const code = ({ exitCode }: { exitCode: number }) => ({ exitCode })
const node = (pod: Pod, nodes: number) => (nodes > 1 ? { node: rankOf(pod) } : {})
const at = (pod: Pod, what: string) => `node ${rankOf(pod)}: ${what}`
const words = (reason?: string, message?: string) => [reason, message].filter(Boolean).join(': ')

function withReason(state: JobState, reason: string | undefined): StateUpdate {
  return { type: 'state', state, ...(reason ? { reason } : {}) }
}
