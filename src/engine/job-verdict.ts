import { JobError, type JobErrorDetails } from '../errors.ts'
import type { JobUpdate } from '../flow/executor.ts'
import type { JobFailure, LostWork } from '../job-failure.ts'

/** Which job, and the last that was heard of it. */
export type AboutJob = Pick<JobErrorDetails, 'executor' | 'job' | 'exitCode' | 'logTail' | 'cause'>

/** The error of a job that ended badly by itself. */
export function stateError(
  about: AboutJob,
  { state, exitCode, reason }: Extract<JobUpdate, { type: 'state' }>,
  failure: JobFailure | undefined,
): JobError {
  const status = exitCode === undefined ? '' : ` with exit code ${exitCode}`
  const how = `${state === 'lost' ? 'was lost' : `ended as ${state}`}${status}${reason ? ` (${reason})` : ''}`
  if (failure) return judgedError({ ...about, exitCode }, how, failure)
  const last = about.logTail.filter(line => line.trim() !== '').at(-1)
  return new JobError(`Job ${about.job} on ${about.executor} ${how}${last ? `: ${last.trim()}` : '.'}`, {
    ...{ ...about, exitCode, retryable: state === 'lost', logTail: [...about.logTail] },
  })
}

/** Instead of the words that follow from the failure. */
export interface VerdictWords {
  readonly message?: string
  readonly hint?: string | undefined
}

/** The error of a job whose failure is known: how it ended, why, the line that says so, what is lost, what to do. */
export function judgedError(about: AboutJob, how: string, failure: JobFailure, given: VerdictWords = {}): JobError {
  const { kind, cause, advice, retry, evidence, lost } = failure
  const { message = `Job ${about.job} on ${about.executor} ${how}.`, hint = advice } = given
  const node = evidence?.node === undefined ? '' : ` of node ${evidence.node}`
  const line = evidence ? `\n    line ${evidence.number}${node}: ${shortened(evidence.line)}` : ''
  const cost = lost ? `\n    lost: ${lostWork(lost)}` : ''
  return new JobError(`${message}\n    ${kind}: ${cause}${line}${cost}\n   `, {
    ...{ ...about, logTail: [...about.logTail], retryable: retry !== 'never', failure, hint },
  })
}

/** What a failure costs, in words. */
export function lostWork({ iterations, seconds, deviceHours, price }: LostWork): string {
  return [
    `${iterations} iteration${iterations === 1 ? '' : 's'}`,
    deviceHours === undefined ? `${Math.round(seconds)} s` : `${deviceHours.toFixed(2)} device-hours`,
    ...(price === undefined ? [] : [`${price.toFixed(2)} in money`]),
  ].join(', ')
}

const longestEvidence = 300
const shortened = (line: string) => (line.length > longestEvidence ? `${line.slice(0, longestEvidence)}…` : line)
