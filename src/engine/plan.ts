import { PlanError } from '../errors.ts'
import { bodyOf } from '../flow/call.ts'
import type { Premises } from '../flow/estimate.ts'
import type { Executor } from '../flow/executor.ts'
import type { Launch } from '../flow/launch.ts'
import type { Target } from '../flow/ref.ts'
import { diffPlans, type PlanDiff } from './diff-plans.ts'
import { lastGoodRun } from './good-run.ts'
import { readJobNote } from './job-note.ts'
import type { Placement } from './placement.ts'
import type { PlannedStep } from './planned-step.ts'
import { printPlan } from './print-plan.ts'
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
  /**
   * The NPUs to reckon with: a plan then says memory, time and price of the jobs that can tell, and a run says their
   * MFU and what they cost.
   */
  readonly premises?: Premises
}

/** What would happen, as data; `String(plan)` is a table for people, of the terminal columns asked for, by default 100. */
export interface Plan {
  readonly steps: readonly PlannedStep[]
  /** How it differs from the newest run of the store that succeeded and has calls of the same names; absent: none has. */
  readonly sinceLastGoodRun?: { readonly run: string; readonly at: string; readonly diff: PlanDiff }
  toString(columns?: number): string
}

/**
 * What running `target` would do: reads file facts and records, writes nothing, needs no network.
 * @throws what `run` would throw before its first step: InputError, LayoutError, PlanError, FormatError.
 */
export async function plan(target: Target, options: PlanOptions = {}): Promise<Plan> {
  const chosen = surveyOptions(options)
  const found = await survey(target, chosen)
  const steps = await Promise.all(found.work.map(work => planStep(work, found)))
  const good = await lastGoodRun(
    chosen.store,
    steps.map(({ name }) => name),
  )
  const since = good && { run: good.run, at: good.at, diff: diffPlans(good, { steps }) }
  return {
    ...{ steps, toString: (columns?: number) => printPlan(steps, { columns, since }) },
    ...(since ? { sinceLastGoodRun: since } : {}),
  }
}

/** The options of `plan` and `run` with defaults applied. */
export function surveyOptions({ store, on, rerun = [], verify = 'size', premises }: PlanOptions) {
  return { store: storeFolder(store), on, rerun, verify, premises }
}

/**
 * The launch of a job call.
 * @throws PlanError when its executor has too few nodes or devices for it.
 */
export async function launchOf(work: Work, input: unknown): Promise<Launch> {
  const body = bodyOf(work.call)
  if (body.kind !== 'job') throw new PlanError(`${work.call.name} is a function step and has no launch.`)
  const launch = await body.launch(input as Record<string, unknown>, work.places)
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
          await launchOf(
            work,
            parseInput(call, other => found.workOf(other).record!.output),
          ),
        )
      : undefined
  return {
    ...{ name: call.name, step: call.step.spec.name, version: call.step.spec.version, key, input: work.input },
    ...{ state, facts: work.facts, warnings: work.warnings, ...(work.estimate ? { estimate: work.estimate } : {}) },
    after: upstream.map(up => up.call.name),
    ...(record ? { recordedAt: record.finishedAt } : { reason: note ? followed(note.id, work) : work.reason }),
    ...(executor ? { on: executor.name } : {}),
    ...(launch ? { launch } : {}),
  }
}

function followed(id: string, { again, reason }: Work): string {
  return again ? `${reason}; job ${id} is cancelled first` : `job ${id} is followed, not started again`
}
