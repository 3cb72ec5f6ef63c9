import stringWidth from 'string-width'
import { PlanError } from '../errors.ts'
import type { Executor } from '../flow/executor.ts'
import type { Canonical } from '../flow/key.ts'
import type { Launch } from '../flow/launch.ts'
import type { Target } from '../flow/ref.ts'
import { readJobNote } from './job-note.ts'
import type { Placement } from './placement.ts'
import { storeFolder } from './store.ts'
import { parseInput, type Survey, survey, type Work } from './survey.ts'

/** What both `plan` and `run` are told. */
export interface PlanOptions {
  /** Folder of the store; default `.ascendflow` in the working folder. */
  readonly store?: string
  /** Where jobs run; default `local()`. Function steps run in this process. */
  readonly on?: Placement
  /** Names of calls or steps to do again although they are recorded, with all that depends on them. */
  readonly rerun?: readonly string[]
  /** How a recorded output is checked before it is believed; default `size`: its files are there with their sizes. */
  readonly verify?: 'size' | 'content'
}

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
  /** Names of the calls that it comes after. */
  readonly after: readonly string[]
}

/** What would happen, as data; `String(plan)` is a table for people. */
export interface Plan {
  readonly steps: readonly PlannedStep[]
  toString(): string
}

/**
 * What running `target` would do: reads file facts and records, writes nothing, needs no network.
 * @throws what `run` would throw before its first step: InputError, LayoutError, PlanError, FormatError.
 */
export async function plan(target: Target, options: PlanOptions = {}): Promise<Plan> {
  const found = await survey(target, surveyOptions(options))
  const steps = await Promise.all(found.work.map(work => planStep(work, found)))
  return { steps, toString: () => printPlan(steps) }
}

/** The options of `plan` and `run` with defaults applied. */
export function surveyOptions({ store, on, rerun = [], verify = 'size' }: PlanOptions) {
  return { store: storeFolder(store), on, rerun, verify }
}

/**
 * The launch of a job call.
 * @throws PlanError when its executor has too few nodes or devices for it.
 */
export function launchOf(work: Work, input: unknown): Launch {
  const { body } = work.call.step
  if (body.kind !== 'job') throw new PlanError(`${work.call.name} is a function step and has no launch.`)
  const launch = body.launch(input as Record<string, unknown>, work.places)
  checkRoom(work.call.name, launch, work.executor!)
  return launch
}

function checkRoom(name: string, { nodes, devicesPerNode }: Launch, executor: Executor): void {
  const { name: where, maxNodes = nodes, devicesPerNode: devices = devicesPerNode } = executor
  if (nodes > maxNodes)
    throw new PlanError(`${name}: it needs ${nodes} nodes, ${where} has ${maxNodes}.`, {
      hint: 'Choose a smaller layout or another executor.',
    })
  if (devicesPerNode > devices)
    throw new PlanError(`${name}: it needs ${devicesPerNode} devices on each node, ${where} has ${devices}.`, {
      hint: 'Choose a smaller layout or another executor.',
    })
}

async function planStep(work: Work, found: Survey): Promise<PlannedStep> {
  const { call, key, executor, record, upstream } = work
  const state = record ? 'recorded' : upstream.every(up => up.record) ? 'ready' : 'waiting'
  const note = record ? undefined : await readJobNote(work.places.job)
  const launch =
    executor && state === 'ready'
      ? executor.describe(
          launchOf(
            work,
            parseInput(call, other => found.workOf(other).record!.output),
          ),
        )
      : undefined
  return {
    ...{ name: call.name, step: call.step.spec.name, version: call.step.spec.version, key, input: work.input },
    ...{ state, facts: work.facts },
    after: upstream.map(up => up.call.name),
    ...(record ? { recordedAt: record.finishedAt } : { reason: note ? followed(note.id, work) : work.reason }),
    ...(executor ? { on: executor.name } : {}),
    ...(launch ? { launch } : {}),
  }
}

function followed(id: string, { again, reason }: Work): string {
  return again ? `${reason}; job ${id} is cancelled first` : `job ${id} is followed, not started again`
}

function printPlan(steps: readonly PlannedStep[]): string {
  const rows = steps.map(step => [
    step.name,
    step.state,
    step.key.slice(0, 12),
    step.recordedAt ? ago(step.recordedAt) : (step.on ?? 'here'),
    [...(step.reason ? [step.reason] : []), ...step.facts].join(' · '),
  ])
  const widths = [0, 1, 2, 3].map(column => Math.max(...rows.map(row => stringWidth(row[column]!))))
  const lines = rows.map(row =>
    row
      .map((cell, column) => pad(cell, widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
  const commands = steps.flatMap(step => (step.launch ? ['', `${step.name} runs`, `  ${step.launch}`] : []))
  return [...lines, ...commands].join('\n')
}

/** Pads to a number of terminal columns: a Chinese character takes two. */
function pad(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - stringWidth(text)))
}

function ago(iso: string): string {
  const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1000)
  const units = [
    ['day', 86_400],
    ['hour', 3_600],
    ['minute', 60],
  ] as const
  const [unit, size] = units.find(([, size]) => seconds >= 2 * size) ?? ['second', 1]
  return `${Math.floor(seconds / size)} ${unit}s ago`
}
