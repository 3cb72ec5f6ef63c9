import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { FormatError, InputError } from '../errors.ts'
import { writeWhole } from '../formats/atomic-file.ts'
import type { Architecture } from '../models/architecture.ts'
import { type Finding, findingText } from './finding.ts'
import { checkHfFolder } from './hf-check.ts'
import { checkIteration } from './iteration-check.ts'
import { type CheckpointIteration, iterationFolder, readTracker, trackerPath } from './megatron-folder.ts'

/** What the checkpoint doctor found. */
export interface Diagnosis {
  readonly kind: 'hf' | 'megatron'
  readonly path: string
  /** Errors first. Empty for a sound checkpoint. */
  readonly findings: readonly Finding[]
  /** Of a Megatron folder: its iterations, oldest first, and whether each that was looked at is complete. */
  readonly iterations: readonly { readonly iteration: CheckpointIteration; readonly isComplete: boolean | undefined }[]
  readonly newestComplete?: CheckpointIteration
  /** What `latest_checkpointed_iteration.txt` names, where it can be read. */
  readonly tracker?: CheckpointIteration
  /** The findings as text, one a line, with what to do. */
  toString(): string
}

export interface DiagnoseOptions {
  /** The model that the shards should hold; default what `args` in them say. */
  readonly architecture?: Architecture | undefined
}

/**
 * Examines a Megatron checkpoint folder or a Hugging Face folder, from names and headers alone: milliseconds whatever
 * its size. It looks at the iteration that the tracker names and, from the newest down, at those up to the newest
 * complete one. Whether the contents of the weights are right is for `verify` to say; where a conversion left its
 * manifest, their CRC-32s are compared with it here, too.
 *
 * @throws FormatError when `path` is neither.
 */
export async function diagnose(path: string, options: DiagnoseOptions = {}): Promise<Diagnosis> {
  const names = await readdir(path).catch(cause => {
    throw new FormatError({ file: path, expected: 'a checkpoint folder', found: 'no folder', cause })
  })
  const iterations = iterationsIn(names)
  const isMegatron = iterations.length > 0 || names.includes(basename(trackerPath(path)))
  if (!isMegatron && !names.some(name => name === 'config.json' || name.endsWith('.safetensors'))) {
    const expected = 'a Megatron folder (iter_*) or a Hugging Face folder (config.json)'
    throw new FormatError({ file: path, expected, found: names.slice(0, 3).join(', ') || 'an empty folder' })
  }
  if (!isMegatron) return diagnosis({ kind: 'hf', path, iterations: [], findings: await checkHfFolder(path) })
  return diagnoseMegatron(path, iterations, names, options)
}

/** The iterations in a Megatron folder, oldest first; `release` before all numbers. */
export function iterationsIn(names: readonly string[]): readonly CheckpointIteration[] {
  const numbers = names.flatMap(name => (/^iter_\d{7,9}$/.test(name) ? [Number(name.slice(5))] : []))
  return [...(names.includes('release') ? (['release'] as const) : []), ...numbers.sort((a, b) => a - b)]
}

async function diagnoseMegatron(
  path: string,
  iterations: readonly CheckpointIteration[],
  names: readonly string[],
  options: DiagnoseOptions,
): Promise<Diagnosis> {
  const findings: Finding[] = []
  const checked = new Map<CheckpointIteration, readonly Finding[]>()
  const isComplete = (iteration: CheckpointIteration): boolean | undefined =>
    checked.get(iteration)?.every(({ severity }) => severity !== 'error')
  const tracker = await readTracker(path).catch(() => undefined)
  if (tracker !== undefined && iterations.includes(tracker))
    checked.set(tracker, await checkIteration(path, { ...options, iteration: tracker }))
  let newestComplete: CheckpointIteration | undefined
  for (const iteration of [...iterations].reverse()) {
    if (!checked.has(iteration)) checked.set(iteration, await checkIteration(path, { ...options, iteration }))
    if (!isComplete(iteration)) continue
    newestComplete = iteration
    break
  }
  const trackerFinding = await checkTracker(path, {
    tracker,
    newestComplete,
    isSound: tracker !== undefined && isComplete(tracker) === true,
  })
  if (trackerFinding !== undefined) findings.push(trackerFinding)
  // What no tracker leads to cannot hurt: an interrupted save, say.
  for (const [iteration, of] of checked) {
    const reached = iteration === (tracker ?? newestComplete ?? iterations.at(-1))
    findings.push(...(reached ? of : of.map((it): Finding => ({ ...it, severity: 'warning' }))))
  }
  for (const name of names) {
    if (!/\.safetensors$|\.pt$|^mp_rank_|^config\.json$/.test(name)) continue
    const advice = 'Move it away: weights of another kind do not belong beside iterations.'
    findings.push({ code: 'foreign-file', severity: 'warning', path: join(path, name), found: name, advice })
  }
  return diagnosis({
    ...{ kind: 'megatron', path, findings },
    iterations: iterations.map(iteration => ({ iteration, isComplete: isComplete(iteration) })),
    ...(newestComplete === undefined ? {} : { newestComplete }),
    ...(tracker === undefined ? {} : { tracker }),
  })
}

async function checkTracker(
  dir: string,
  state: {
    tracker: CheckpointIteration | undefined
    newestComplete: CheckpointIteration | undefined
    isSound: boolean
  },
): Promise<Finding | undefined> {
  const { tracker, newestComplete } = state
  const path = trackerPath(dir)
  const advice =
    newestComplete === undefined
      ? 'No iteration is complete: convert or train again.'
      : `repair() sets it to ${newestComplete}, the newest complete iteration.`
  if (tracker === undefined) {
    const size = await stat(path).then(
      it => it.size,
      () => undefined,
    )
    if (size === undefined) return { code: 'tracker-missing', severity: 'error', path, newestComplete, advice }
    const found = size > 1000 ? `${size} bytes` : JSON.stringify((await readFile(path, 'latin1')).slice(0, 40))
    return { code: 'tracker-garbled', severity: 'error', path, found, newestComplete, advice }
  }
  if (!state.isSound)
    return { code: 'tracker-ahead', severity: 'error', path, iteration: tracker, newestComplete, advice }
  if (newestComplete !== undefined && newestComplete !== tracker && newestComplete !== 'release')
    return {
      ...{ code: 'tracker-behind', severity: 'warning', path, iteration: tracker, newestComplete },
      advice: `A save may have been cut short before the tracker was written: repair(path, { iteration: ${newestComplete} }) goes on from there.`,
    }
  return undefined
}

function diagnosis(facts: Omit<Diagnosis, 'toString'>): Diagnosis {
  const findings = [...facts.findings].sort(
    (a, b) => Number(a.severity === 'warning') - Number(b.severity === 'warning'),
  )
  return {
    ...facts,
    findings,
    toString: () =>
      findings.length === 0
        ? `✓ ${facts.path}: nothing is wrong`
        : findings.map(finding => `${findingText(finding)}\n  ${finding.advice}`).join('\n'),
  }
}

/** What a repair did and what it left. */
export interface Repair {
  /** Files that were written, each with what it held before (absent when there was none) and now. */
  readonly done: readonly { readonly path: string; readonly before?: string; readonly after: string }[]
  /** The diagnosis after it. */
  readonly diagnosis: Diagnosis
}

/**
 * Sets the tracker to the newest complete iteration when it is missing, garbled or names one that is not complete; with
 * `iteration`, to that one, which must be complete. Nothing else is touched: damaged weights cannot be mended, and
 * whether a foreign file may go is not for a program to say. The tracker is replaced whole or not at all.
 *
 * @throws InputError when the checkpoint has no complete iteration, or `iteration` is not complete.
 */
export async function repair(
  path: string,
  options: DiagnoseOptions & { readonly iteration?: CheckpointIteration | undefined } = {},
): Promise<Repair> {
  const found = await diagnose(path, options)
  const needed = found.findings.some(({ code }) => /^tracker-(missing|garbled|ahead)$/.test(code))
  const target = options.iteration ?? (needed ? found.newestComplete : undefined)
  if (target === undefined) {
    if (needed) throw new InputError(`${path} has no complete iteration to set the tracker to.\n${found}`)
    return { done: [], diagnosis: found }
  }
  if (options.iteration !== undefined) {
    const folder = await stat(join(path, iterationFolder(target))).catch(() => undefined)
    const findings = folder === undefined ? undefined : await checkIteration(path, { ...options, iteration: target })
    const wrong = findings?.find(({ severity }) => severity === 'error')
    if (findings === undefined || wrong !== undefined)
      throw new InputError(
        `Iteration ${target} of ${path} is not complete: ${wrong === undefined ? 'there is no such folder.' : findingText(wrong)}`,
      )
  }
  const file = trackerPath(path)
  const before = await readFile(file, 'latin1').then(
    text => text.slice(0, 1000),
    () => undefined,
  )
  const after = String(target)
  if (before === after) return { done: [], diagnosis: found }
  await writeWhole(file, after)
  const done = [{ path: file, ...(before === undefined ? {} : { before }), after }]
  return { done, diagnosis: await diagnose(path, options) }
}
