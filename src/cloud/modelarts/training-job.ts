import { z } from 'zod'
import type { JobState } from '../../flow/executor.ts'

/**
 * A training job as the service tells of it. What is not used here may be absent, new or of another type; `null` is
 * taken for absent.
 */
export const TrainingJob = z.looseObject({
  metadata: z.looseObject({ id: z.string(), name: z.string(), description: z.string().nullish() }),
  status: z
    .looseObject({
      /** Creating, Pending, Running, Terminating; then Completed, Failed, Terminated, Abnormal. Not monotonic. */
      phase: z.string().nullish(),
      secondary_phase: z.string().nullish(),
      /** `worker-0` to `worker-{n-1}`, once they exist. */
      tasks: z.array(z.string()).nullish(),
      task_statuses: z
        .array(
          z.looseObject({ task: z.string().nullish(), exit_code: z.number().nullish(), message: z.string().nullish() }),
        )
        .nullish(),
      /** One for each start: a job that was restarted three times has four. */
      running_records: z.array(z.looseObject({ end_reason: z.string().nullish() })).nullish(),
    })
    .nullish(),
})

export type TrainingJob = z.output<typeof TrainingJob>

/**
 * What a phase means. A job that is queued again goes from Running back to Pending; a phase that is not known is one of
 * a job that lives on, never of one that has ended.
 */
export function stateOf({ status }: TrainingJob): JobState {
  switch (status?.phase) {
    case 'Completed':
      return 'succeeded'
    case 'Failed':
    case 'Abnormal':
      return 'failed'
    case 'Terminated':
      return 'cancelled'
    case 'Running':
    case 'Terminating':
      return 'running'
    default:
      return 'pending'
  }
}

/** The first exit code of a node that failed, and what the service says of it. */
export function endOf({ status }: TrainingJob): { readonly exitCode?: number; readonly reason?: string } {
  const failed = status?.task_statuses?.find(({ exit_code }) => exit_code)
  const record = status?.running_records?.at(-1)?.end_reason
  const secondary = status?.phase === 'Abnormal' ? status.secondary_phase : undefined
  const said = [failed?.message, record, secondary].filter(Boolean).join('; ')
  const reason = [failed?.task, said].filter(Boolean).join(': ')
  return { ...(failed?.exit_code ? { exitCode: failed.exit_code } : {}), ...(reason ? { reason } : {}) }
}
