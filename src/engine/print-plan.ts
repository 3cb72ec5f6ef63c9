import stringWidth from 'string-width'
import type { Estimate } from '../flow/estimate.ts'
import type { PlannedStep } from './planned-step.ts'

/** A plan as a table, and below it what jobs would take, and their commands. */
export function printPlan(steps: readonly PlannedStep[]): string {
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
  const estimates = steps.flatMap(step =>
    step.estimate ? ['', `${step.name} needs`, ...estimateLines(step.estimate)] : [],
  )
  const commands = steps.flatMap(step => (step.launch ? ['', `${step.name} runs`, `  ${step.launch}`] : []))
  return [...lines, ...estimates, ...commands].join('\n')
}

function estimateLines({ devices, memory, secondsPerIteration, tokensPerSecondPerDevice, total }: Estimate): string[] {
  const { bytes, usableBytes, fits, parts } = memory
  const largest = Object.entries(parts)
    .filter(([, part]) => part >= 0.02 * bytes)
    .sort((a, b) => b[1] - a[1])
    .map(([name, part]) => `${name} ${gib(part)}`)
  const speed = `${seconds(secondsPerIteration)} an iteration, ${number(tokensPerSecondPerDevice)} tokens/s a device`
  const { iterations, hours, deviceHours, price } = total ?? {}
  return [
    `  memory  ${bar(bytes / usableBytes)} ${gib(bytes)} of ${gib(usableBytes)} GiB${fits ? '' : ', it does not fit'}`,
    `          ${largest.join(' · ')}`,
    iterations === undefined || hours === undefined
      ? `  time    ${speed}; iterations not known yet`
      : `  time    ${number(iterations)} iterations in ${number(hours)} h on ${devices} devices (${speed})`,
    ...(price === undefined ? [] : [`  price   ${number(price)} for ${number(deviceHours ?? 0)} device-hours`]),
  ]
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
