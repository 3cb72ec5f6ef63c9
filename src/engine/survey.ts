import type { z } from 'zod'
import { type FlowError, InputError, isFlowError, PlanError } from '../errors.ts'
import type { Artifact } from '../flow/artifact.ts'
import { refsIn, replaceRefs } from '../flow/backing.ts'
import type { Call } from '../flow/call.ts'
import type { Estimate, Premises } from '../flow/estimate.ts'
import type { Executor } from '../flow/executor.ts'
import { callsOf, isTarget, resolveRefs, upstreamOf } from '../flow/graph.ts'
import { type Canonical, callKey, canonicalInput } from '../flow/key.ts'
import { inputError } from '../flow/step.ts'
import { artifactFiles, fileDigest } from './artifact-files.ts'
import { insertCalls } from './insert-calls.ts'
import { missReason } from './miss-reason.ts'
import { type Placement, placeCalls } from './placement.ts'
import { readRecord, type StepRecord } from './record.ts'
import { recordsOf, type StepPlaces, stepPlaces } from './store.ts'

export interface SurveyOptions {
  readonly store: string
  readonly on: Placement | undefined
  readonly rerun: readonly string[]
  readonly verify: 'size' | 'content'
  readonly premises?: Premises | undefined
}

/** One piece of work: all calls of a graph with one key. */
export interface Work {
  readonly key: string
  readonly call: Call
  readonly places: StepPlaces
  readonly input: Readonly<Record<string, Canonical>>
  readonly upstream: readonly Work[]
  readonly executor: Executor | undefined
  /** What the step's `check`, or `summarize` for a recorded output, found worth printing. */
  readonly facts: readonly string[]
  /** What its step finds likely not meant about where it is to run. */
  readonly warnings: readonly string[]
  readonly estimate?: Estimate | undefined
  readonly premises: Premises | undefined
  /** The valid record; absent when the work must be done. */
  readonly record?: StepRecord
  /** What later calls may know of the output: all of it when recorded, otherwise what the step foretells. */
  readonly expected: unknown
  /** Why there is no valid record. */
  readonly reason: string
  /** Named in `rerun`, or downstream of such a call. */
  readonly again: boolean
}

export interface Survey {
  readonly work: readonly Work[]
  workOf(call: Call): Work
  /** The valid record of some work as of now. */
  recordOf(work: Work): Promise<StepRecord | undefined>
}

/**
 * Finds out what a target needs, without writing anything: keys, records, checks, placement.
 * @throws PlanError, InputError, or what a step's `check` throws, with the step's name and the place of the call.
 */
export async function survey(target: unknown, options: SurveyOptions): Promise<Survey> {
  if (!isTarget(target))
    throw new PlanError('There is nothing to run: pass a ref (what a step call returns) or a record of refs.')
  const calls = callsOf(target)
  const executorOf = placeCalls(calls, options.on)
  const byKey = new Map<string, Work>()
  const byCall = new Map<Call, Work>()
  const expected = (call: Call) => byCall.get(call)?.expected
  const isNamed = (call: Call) => options.rerun.some(name => [call.name, call.step.spec.name].includes(name))
  const visit = async (call: Call, known: KnownInput): Promise<Work> => {
    const input = await inputOf(call, found => byCall.get(found)!.key)
    const key = callKey(call, input)
    let work = byKey.get(key)
    if (!work) {
      const { name, version } = call.step.spec
      const places = stepPlaces(options.store, name, key)
      const upstream = [...new Set(upstreamOf(call).map(found => byCall.get(found)!))]
      const again = isNamed(call) || upstream.some(up => up.again)
      const found: FoundRecord = again
        ? { reason: 'asked for again' }
        : await findRecord(call, key, places, options.verify)
      const summary = found.record && summaryOf(call, found.record.output)
      const executor = executorOf(call)
      const { facts, warnings, foretold, estimate }: Ahead = summary
        ? { facts: summary, warnings: [], foretold: undefined, estimate: undefined }
        : await lookAhead(call, { known, executor, premises: options.premises })
      const planned = {
        ...{ key, call, places, input, upstream, executor, facts, warnings, again },
        premises: options.premises,
        estimate: found.record ? undefined : estimate,
      }
      if (found.record) work = { ...planned, record: found.record, expected: found.record.output, reason: '' }
      else {
        const nameOfKey = (upstreamKey: string) => byKey.get(upstreamKey)?.call.name
        const reason = found.reason ?? missReason({ version, input }, await recordsOf(options.store, name), nameOfKey)
        work = { ...planned, expected: foretold, reason }
      }
      byKey.set(key, work)
    }
    byCall.set(call, work)
    return work
  }
  for (const asked of calls) {
    const known = knownInput(asked, expected)
    const { call, inserted } = insertCalls(asked, known)
    for (const before of inserted) await visit(before, knownInput(before, expected))
    byCall.set(asked, await visit(call, inserted.length === 0 ? known : knownInput(call, expected)))
  }
  checkRerun([...byCall.keys()], options.rerun)
  checkNames(byCall)
  return {
    work: [...byKey.values()],
    workOf: call => byCall.get(call)!,
    recordOf: async ({ call, key, places }) => (await findRecord(call, key, places, options.verify)).record,
  }
}

/** The whole input of a call, parsed, once the outputs of its upstream calls are known. */
export function parseInput(call: Call, outputOf: (call: Call) => unknown): unknown {
  const parsed = call.step.spec.input.safeParse(resolveRefs(call.input, outputOf))
  if (!parsed.success) throw inputError(call.name, parsed.error.issues, { at: call.at })
  return parsed.data
}

async function inputOf(call: Call, keyOf: (call: Call) => string): Promise<Readonly<Record<string, Canonical>>> {
  const literals: Artifact[] = []
  // Two passes, since files are read asynchronously: the first finds the artifacts, the second has their digests.
  canonicalInput(call, { keyOf, fingerprintOf: artifact => literals.push(artifact) })
  const prints = new Map<string, Canonical>()
  for (const { path, kind } of literals) {
    const files = await artifactFiles(path)
    if (files.length === 0)
      throw new InputError(`${call.name}: no file is at ${path}, which is to be a ${kind}.`, {
        step: call.name,
        at: call.at,
      })
    const digests = await Promise.all(files.map(async file => [file.name, await fileDigest(file.path)] as const))
    prints.set(path, Object.fromEntries(digests))
  }
  return canonicalInput(call, { keyOf, fingerprintOf: artifact => prints.get(artifact.path)! })
}

/** What an output comes to; undefined where its step has no words for it. */
export function summaryOf({ step }: Call, output: unknown): readonly string[] | undefined {
  return step.spec.summarize?.(output)
}

interface Ahead extends Pick<Work, 'facts' | 'warnings' | 'estimate'> {
  readonly foretold: unknown
}

interface AheadOptions extends Pick<SurveyOptions, 'premises'> {
  readonly executor: Executor | undefined
  readonly known: KnownInput
}

type KnownInput = Readonly<Record<string, unknown>>

/** The parts of a call's input that are known, with defaults applied. */
function knownInput(call: Call, expected: (call: Call) => unknown): KnownInput {
  const shape = call.step.spec.input.shape as Readonly<Record<string, z.ZodType>>
  const known: Record<string, unknown> = {}
  for (const [field, schema] of Object.entries(shape)) {
    const given = call.input[field]
    const value = refsIn(given).length > 0 ? knownParts(given, expected) : schema.parse(given)
    if (value !== undefined || given === undefined) known[field] = value
  }
  return known
}

/** What the step says of the parts of its input that are known: facts to print, and what it foretells. */
async function lookAhead(call: Call, { known, executor, premises }: AheadOptions): Promise<Ahead> {
  const { check, warn, foretell, estimate } = call.step.spec
  try {
    const facts = (await check?.(known)) ?? []
    const [foretold, estimated] = [await foretell?.(known), premises && (await estimate?.(known, premises))]
    return { facts, warnings: warn?.(known, executor) ?? [], foretold, estimate: estimated }
  } catch (error) {
    if (isFlowError(error)) throw located(error, call)
    throw error
  }
}

/** `value` with each ref replaced by what is known of it, and undefined where nothing is. */
function knownParts(value: unknown, expected: (call: Call) => unknown): unknown {
  return replaceRefs(value, ({ call, path }) =>
    path.reduce<unknown>((at, field) => (at as Record<string, unknown> | undefined)?.[field], expected(call)),
  )
}

/** The same error with the call's name before its message and the place of the call after it. */
function located(error: FlowError, call: Call): FlowError {
  const place = call.at && !error.message.includes('\n    at ') ? `\n    at ${call.at}` : ''
  const name = error.message.startsWith(call.name) ? '' : `${call.name}: `
  error.message = `${name}${error.message}${place}`
  return error
}

/** A valid record, or why the one that is there is not; neither when there is none. */
interface FoundRecord {
  readonly record?: StepRecord
  readonly reason?: string
}

async function findRecord(
  call: Call,
  key: string,
  places: StepPlaces,
  verify: 'size' | 'content',
): Promise<FoundRecord> {
  const record = await readRecord(places.record, places)
  if (!record || record.key !== key) return {}
  const output = call.step.spec.output.safeParse(record.output)
  if (!output.success)
    return { reason: `its record no longer fits the step's output (${output.error.issues[0]?.message})` }
  for (const file of record.files) {
    const now = (await artifactFiles(file.path)).find(({ path }) => path === file.path)
    if (!now) return { reason: `${file.path} is gone` }
    if (now.size !== file.size) return { reason: `${file.path} has ${now.size} bytes, recorded were ${file.size}` }
    if (verify === 'content' && (await fileDigest(file.path)) !== file.digest)
      return { reason: `${file.path} has other content than was recorded` }
  }
  return { record: { ...record, output: output.data } }
}

function checkRerun(calls: readonly Call[], rerun: readonly string[]): void {
  const names = new Set(calls.map(call => call.name))
  const steps = new Set(calls.map(call => call.step.spec.name))
  const unknown = rerun.find(name => !names.has(name) && !steps.has(name))
  if (unknown !== undefined)
    throw new PlanError(`rerun: there is no call or step '${unknown}' here; there are ${[...names].join(', ')}.`)
}

function checkNames(byCall: ReadonlyMap<Call, Work>): void {
  const keys = new Map<string, { readonly key: string; readonly call: Call }>()
  for (const [call, { key }] of byCall) {
    const other = keys.get(call.name)
    if (other && other.key !== key)
      throw new PlanError(
        `Two different calls are named '${call.name}' (${other.call.at ?? 'somewhere'} and ${call.at ?? 'elsewhere'}).`,
        { hint: `Name them: ${call.step.spec.name}({ … }, { name: '${call.name}-2' }).` },
      )
    keys.set(call.name, { key, call })
  }
}
