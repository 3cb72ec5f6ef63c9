import stringWidth from 'string-width'
import type { Estimate } from '../flow/estimate.ts'
import type { PlanDiff } from './diff-plans.ts'
import type { PlannedStep } from './planned-step.ts'

/**
 * A plan as a table of at most `columns` terminal columns, where words allow it; below it what is likely not
 * meant, what jobs would take, and their commands, which are not wrapped, so that they can be copied.
 */
export function printPlan(
  steps: readonly PlannedStep[],
  { columns = 100, since }: { readonly columns?: number | undefined; readonly since?: Since | undefined } = {},
): string {
  const rows = steps.map(step => [
    step.name,
    step.state,
    step.key.slice(0, 12),
    step.recordedAt ? ago(step.recordedAt) : (step.on ?? 'here'),
  ])
  const widths = [0, 1, 2, 3].map(column => Math.max(...rows.map(row => stringWidth(row[column]!))))
  const lines = rows.flatMap((row, index) => {
    const { reason, facts } = steps[index]!
    const cells = row.map((cell, column) => `${pad(cell, widths[column] ?? 0)}  `)
    // Narrow terminals need the room of the key.
    const head = cells.filter((_, column) => column !== 2 || columns >= 100).join('')
    return wrapped(head, [...(reason ? [reason] : []), ...facts], columns)
  })
  const warnings = steps.flatMap(({ name, warnings }) =>
    warnings.flatMap(warning => wrapped(`! ${name}: `, [warning], columns)),
  )
  const estimates = steps.flatMap(step =>
    step.estimate ? ['', `${step.name} needs`, ...estimateLines(step.estimate, columns)] : [],
  )
  const commands = steps.flatMap(step => (step.launch ? ['', `${step.name} runs`, `  ${step.launch}`] : []))
  return [
    ...[...lines, ...sinceLines(steps, since)],
    ...(warnings.length > 0 ? ['', ...warnings] : []),
    ...[...estimates, ...commands],
  ].join('\n')
}

/** The last good run, and what differs from it. */
interface Since {
  readonly at: string
  readonly diff: PlanDiff
}

/** Nothing where nothing is to be done, or all is as it was. */
function sinceLines(steps: readonly PlannedStep[], since: Since | undefined): readonly string[] {
  if (!since || steps.every(({ state }) => state === 'recorded')) return []
  const { added, removed, changed } = since.diff
  if (added.length + removed.length + changed.length === 0) return []
  const told = String(since.diff).split('\n')
  return ['', `since the last good run, ${ago(since.at)}`, ...told.map(line => `  ${line}`)]
}

function estimateLines(estimate: Estimate, columns: number): string[] {
  const { devices, memory, secondsPerIteration, tokensPerSecondPerDevice, total } = estimate
  const { bytes, usableBytes, fits, parts } = memory
  const largest = Object.entries(parts)
    .filter(([, part]) => part >= 0.02 * bytes)
    .sort((a, b) => b[1] - a[1])
    .map(([name, part]) => `${name} ${gib(part)}`)
  const speed = [
    `${seconds(secondsPerIteration)} an iteration`,
    `${number(tokensPerSecondPerDevice)} tokens/s a device`,
  ]
  const { iterations, hours, deviceHours, price } = total ?? {}
  return [
    `  memory   ${bar(bytes / usableBytes)} ${gib(bytes)} of ${gib(usableBytes)} GiB${fits ? '' : ', it does not fit'}`,
    ...wrapped('           ', largest, columns),
    ...(fits ? [] : wrapped('  nearest  ', nearestWords(estimate), columns)),
    ...(iterations === undefined || hours === undefined
      ? wrapped('  time     ', [...speed, 'iterations not known yet'], columns)
      : wrapped(
          '  time     ',
          [`${number(iterations)} iterations in ${number(hours)} h on ${devices} devices`, ...speed],
          columns,
        )),
    ...(price === undefined ? [] : [`  price    ${number(price)} for ${number(deviceHours ?? 0)} device-hours`]),
  ]
}

function nearestWords({ nearest, devices }: Estimate): readonly string[] {
  if (!nearest) return ['no layout fits']
  const { tp, pp, cp, dp, microBatchSize, distributedOptimizer, recompute, recomputeNumLayers, bytes } = nearest
  return [
    `tp ${tp} · pp ${pp}${cp > 1 ? ` · cp ${cp}` : ''} · dp ${dp} on ${nearest.devices === devices ? 'the same' : nearest.devices} devices`,
    `microBatchSize ${microBatchSize}`,
    ...(distributedOptimizer ? ['distributedOptimizer'] : []),
    ...(recompute === 'none'
      ? []
      : [`recompute ${recompute}${recomputeNumLayers ? ` of ${recomputeNumLayers} layers` : ''}`]),
    `${gib(bytes)} GiB`,
    `${seconds(nearest.secondsPerIteration)} an iteration`,
  ]
}

/** Phrases after a head, dots between them, in lines of at most `columns`; a phrase that is longer is cut at its words. */
function wrapped(head: string, phrases: readonly string[], columns: number): readonly string[] {
  const room = Math.max(24, columns - stringWidth(head))
  const fits = (text: string) => stringWidth(text) <= room
  const pieces = phrases.flatMap(phrase => (fits(phrase) ? [phrase] : joined(phrase.split(' '), ' ', fits)))
  if (pieces.length === 0) return [head.trimEnd()]
  const indent = ' '.repeat(stringWidth(head))
  return joined(pieces, ' · ', fits).map((line, index) => `${index === 0 ? head : indent}${line}`)
}

/** As few lines as hold the parts in order. */
function joined(parts: readonly string[], between: string, fits: (text: string) => boolean): readonly string[] {
  const lines: string[] = []
  for (const part of parts) {
    const longer = lines.length > 0 ? `${lines.at(-1)}${between}${part}` : part
    if (lines.length > 0 && fits(longer)) lines[lines.length - 1] = longer
    else lines.push(part)
  }
  return lines
}

const barCells = 24

function bar(share: number): string {
  const filled = Math.min(barCells, Math.round(share * barCells))
  return `${'█'.repeat(filled)}${'░'.repeat(barCells - filled)}`
}

const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1)
const seconds = (value: number) => `${value < 100 ? value.toPrecision(3) : Math.round(value)} s`
const number = (value: number) =>
  value >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)))

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
