import type { Estimate } from '../flow/estimate.ts'
import type { Canonical } from '../flow/key.ts'

/** One call of a plan. */
export interface PlannedStep {
  /** Name of the call. */
  readonly name: string
  /** Name of the step. */
  readonly step: string
  /** Version of the step. */
  readonly version: number
  readonly key: string
  /** The input as it counts in the key: literals, digests of files, and keys of the calls that refs point to. */
  readonly input: Readonly<Record<string, Canonical>>
  /** `recorded`: done and valid; `ready`: all it needs is recorded; `waiting`: for other calls of this plan. */
  readonly state: 'recorded' | 'ready' | 'waiting'
  /** Why it is not recorded. */
  readonly reason?: string
  /** When it was done, ISO 8601; only when recorded. */
  readonly recordedAt?: string
  /** Name of the executor; absent for a function step. */
  readonly on?: string
  /** The exact command or request, for a job whose input is known. */
  readonly launch?: string
  /** What the step found worth saying: its layout, its iterations. */
  readonly facts: readonly string[]
  /** What is likely not meant about where it is to run. */
  readonly warnings: readonly string[]
  /** What it would take on the devices that the plan was told of; absent for what is recorded or not known. */
  readonly estimate?: Estimate
  /** Names of the calls that it comes after. */
  readonly after: readonly string[]
}
