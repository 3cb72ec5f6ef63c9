/** What Megatron's training log says of the iterations since its last line. Absent fields were not printed. */
export interface IterationLine {
  /** The last iteration that the line covers, counted from 1. */
  readonly iteration: number
  readonly trainIters: number
  /** As printed, `YYYY-MM-DD HH:MM:SS` in the machine's own time zone. */
  readonly timestamp?: string
  readonly consumedSamples?: number
  readonly consumedTokens?: number
  /** Mean over the interval, without saving and evaluating. */
  readonly elapsedMsPerIteration?: number
  readonly tflopsPerDevice?: number
  /** The rate of the next iteration: Megatron steps its schedule before it prints. */
  readonly learningRate?: number
  readonly globalBatchSize?: number
  /** Mean over the interval; Megatron leaves it out when it is not above zero (all skipped, or NaN). */
  readonly loss?: number
  readonly lossScale?: number
  readonly gradNorm?: number
  readonly numZeros?: number
  readonly paramsNorm?: number
  readonly skippedIterations?: number
  readonly nanIterations?: number
}

/**
 * The iteration line of Megatron-LM core_r0.6.0, to the character; it starts with a space and has no line end.
 * Source: megatron/training/training.py, `training_log`.
 */
export function formatIterationLine(line: IterationLine): string {
  const field = (name: string, value: number | undefined, format: (value: number) => string) =>
    value === undefined ? '' : ` ${name}: ${format(value)} |`
  const whole = (width: number) => (value: number) => String(value).padStart(width)
  const fixed = (digits: number) => (value: number) => pythonFloat(value, value.toFixed(digits))
  return [
    line.timestamp === undefined ? '' : ` [${line.timestamp}]`,
    ` iteration ${whole(8)(line.iteration)}/${whole(8)(line.trainIters)} |`,
    field('consumed samples', line.consumedSamples, whole(12)),
    field('consumed tokens', line.consumedTokens, whole(12)),
    field('elapsed time per iteration (ms)', line.elapsedMsPerIteration, fixed(1)),
    field('throughput per GPU (TFLOP/s/GPU)', line.tflopsPerDevice, fixed(1)),
    field('learning rate', line.learningRate, scientific),
    field('global batch size', line.globalBatchSize, whole(5)),
    field('lm loss', line.loss !== undefined && line.loss > 0 ? line.loss : undefined, scientific),
    field('loss scale', line.lossScale, fixed(1)),
    field('grad norm', line.gradNorm, fixed(3)),
    field('num zeros', line.numZeros, fixed(1)),
    field('params norm', line.paramsNorm, fixed(3)),
    field('number of skipped iterations', line.skippedIterations, whole(3)),
    field('number of nan iterations', line.nanIterations, whole(3)),
  ].join('')
}

/** Fields by the names that the toolchain's generations print. */
const fields: ReadonlyMap<string, keyof IterationLine> = new Map([
  ['consumed samples', 'consumedSamples'],
  ['consumed tokens', 'consumedTokens'],
  ['elapsed time per iteration (ms)', 'elapsedMsPerIteration'],
  ['throughput per GPU (TFLOP/s/GPU)', 'tflopsPerDevice'],
  ['throughput (TFLOP/s/GPU)', 'tflopsPerDevice'],
  ['TFLOPs', 'tflopsPerDevice'],
  ['learning rate', 'learningRate'],
  ['global batch size', 'globalBatchSize'],
  ['lm loss', 'loss'],
  ['loss', 'loss'],
  ['loss scale', 'lossScale'],
  ['grad norm', 'gradNorm'],
  ['num zeros', 'numZeros'],
  ['params norm', 'paramsNorm'],
  ['number of skipped iterations', 'skippedIterations'],
  ['number of nan iterations', 'nanIterations'],
])

const head = /(?:\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\]\s+)?\biteration\s+(\d+)\/\s*(\d+)\s\|/

/**
 * Reads an iteration line of any generation (AscendSpeed 2023, ModelLink 1.0 and later), or gives undefined.
 *
 * Fields are found by name, never by place, so absent, additional and reordered ones do no harm; text before the
 * line (a rank, a container's time stamp) is passed over. `nan` and `inf` are read as such.
 */
export function parseIterationLine(text: string): IterationLine | undefined {
  const found = head.exec(text)
  if (!found) return undefined
  const read: { -readonly [key in keyof IterationLine]: IterationLine[key] } = {
    iteration: Number(found[2]),
    trainIters: Number(found[3]),
    ...(found[1] !== undefined && { timestamp: found[1] }),
  }
  const numbers = read as unknown as Record<string, number>
  let start = found.index + found[0].length
  while (start < text.length) {
    const bar = text.indexOf('|', start)
    const part = text.slice(start, bar < 0 ? undefined : bar)
    start += part.length + 1
    const colon = part.lastIndexOf(':')
    const key = colon < 0 ? undefined : fields.get(part.slice(0, colon).trim())
    const value = key && readNumber(part.slice(colon + 1).trim())
    if (key && value !== undefined) numbers[key] = value
  }
  return read
}

/** One evaluation, as Megatron prints it. */
export interface ValidationLine {
  readonly iteration: number
  /** Present on the lines that Megatron prints after training. */
  readonly set?: 'validation' | 'test'
  readonly loss: number
  /** exp(loss), cut at exp(20). */
  readonly perplexity: number
}

/** The three lines of one evaluation: the numbers between dashes. Source: Megatron-LM, `evaluate_and_print_results`. */
export function formatValidationLines(line: Omit<ValidationLine, 'perplexity'>): readonly string[] {
  const where = `iteration ${line.iteration}${line.set === undefined ? '' : ` on ${line.set} set`}`
  const perplexity = Math.exp(Math.min(20, line.loss))
  const text = ` validation loss at ${where} | lm loss value: ${scientific(line.loss)} | lm loss PPL: ${scientific(perplexity)} | `
  const dashes = '-'.repeat(text.length + 1)
  return [dashes, text, dashes]
}

/** Reads the line with the numbers, or gives undefined. */
export function parseValidationLine(text: string): ValidationLine | undefined {
  const match =
    /validation loss at iteration (\d+)(?: on (validation|test) set)? \| lm loss value: (\S+) \| lm loss PPL: (\S+)/.exec(
      text,
    )
  const loss = readNumber(match?.[3] ?? '')
  const perplexity = readNumber(match?.[4] ?? '')
  if (!match || loss === undefined || perplexity === undefined) return undefined
  const set = match[2] as ValidationLine['set'] | undefined
  return { iteration: Number(match[1]), ...(set && { set }), loss, perplexity }
}

/** Python's `{:.6E}`. */
function scientific(value: number): string {
  return pythonFloat(value, value.toExponential(6))
    .toUpperCase()
    .replace(/E([+-])(\d)$/, 'E$10$2')
}

function pythonFloat(value: number, text: string): string {
  if (Number.isNaN(value)) return 'nan'
  return Number.isFinite(value) ? text : value > 0 ? 'inf' : '-inf'
}

function readNumber(text: string): number | undefined {
  if (/^[+-]?(\d+\.?\d*|\.\d+)(E[+-]?\d+)?$/i.test(text)) return Number(text)
  const special = /^([+-]?)(nan|inf)$/i.exec(text)
  if (!special) return undefined
  return special[2]?.toLowerCase() === 'nan' ? Number.NaN : special[1] === '-' ? -Infinity : Infinity
}
