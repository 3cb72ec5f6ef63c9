import { type IterationLine, parseIterationLine, parseValidationLine, type ValidationLine } from './iteration-line.ts'

/** What a line of the toolchain's output says, as far as anybody watching a job needs it. */
export type LogLine =
  | { readonly kind: 'iteration'; readonly iteration: IterationLine }
  | { readonly kind: 'validation'; readonly validation: ValidationLine }
  | {
      readonly kind: 'checkpoint'
      readonly state: 'saving' | 'saved' | 'loaded'
      /** 0 for a release checkpoint. */
      readonly iteration: number
      readonly path: string
    }
  /** Setting up is over: iterations begin. */
  | { readonly kind: 'training' }
  /** The last iteration is done, or the program was told to stop; what is left is saving and measuring. */
  | { readonly kind: 'ending' }
  | { readonly kind: 'warning'; readonly text: string }

/** No line of the toolchain is longer; what stands behind it is not looked at. */
export const longestLine = 16_384

/** What stands before iteration and folder. */
const phrases = [
  ['saving checkpoint at iteration ', 'saving'],
  ['successfully saved checkpoint at iteration ', 'saved'],
  ['successfully saved checkpoint from iteration ', 'saved'],
  ['successfully loaded checkpoint from ', 'loaded'],
] as const
const savedTo = /^(\d+) to (\S.*)$/
const loadedFrom = /^(.+?)(?: \[[^\]]*\])? at iteration (\d+)$/

/**
 * Reads one line of output of any generation, of any rank; undefined for what says nothing here, which most lines do.
 * Never throws, and takes time in proportion to the line.
 *
 * Source: Megatron-LM core_r0.6.0, megatron/training/training.py and checkpointing.py; AscendSpeed 64b1937 and
 * Megatron-LM bcce6f54 for the older forms.
 */
export function parseLogLine(line: string): LogLine | undefined {
  const text = plain(line)
  // Few lines pass these tests, which is what makes a large log quick to read.
  if (text.includes('iteration')) {
    const iteration = text.includes('|') ? parseIterationLine(text) : undefined
    if (iteration) return { kind: 'iteration', iteration }
    const validation = text.includes('validation loss') ? parseValidationLine(text) : undefined
    if (validation) return { kind: 'validation', validation }
    const checkpoint = text.includes('checkpoint') ? parseCheckpoint(text) : undefined
    if (checkpoint) return checkpoint
  }
  if (text.includes('] datetime: ')) {
    if (text.includes('[before the start of training step')) return { kind: 'training' }
    if (text.includes('[after training is done') || text.includes('[exiting program')) return { kind: 'ending' }
  }
  return isWarning(text) ? { kind: 'warning', text: text.trim() } : undefined
}

/** Without colours, cut to what can be a line; of a line that was drawn over, what is left to see. */
export function plain(line: string): string {
  let text = line.length > longestLine ? line.slice(0, longestLine) : line
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal escape sequences begin with one
  if (text.includes('\x1b')) text = text.replace(/\x1b\[[\d;]*[A-Za-z]/g, '')
  return text.includes('\r') ? text.slice(text.lastIndexOf('\r', text.length - 2) + 1) : text
}

function parseCheckpoint(text: string): LogLine | undefined {
  const [phrase, state] = phrases.find(([words]) => text.includes(words)) ?? []
  if (phrase === undefined || state === undefined) return undefined
  const rest = text.slice(text.indexOf(phrase) + phrase.length).trim()
  if (state === 'loaded') {
    const [, path, iteration] = loadedFrom.exec(rest) ?? []
    return path === undefined ? undefined : { kind: 'checkpoint', state, iteration: Number(iteration), path }
  }
  const [, iteration, path] = savedTo.exec(rest.endsWith(' format') ? rest.replace(/ in \w+ format$/, '') : rest) ?? []
  return path === undefined ? undefined : { kind: 'checkpoint', state, iteration: Number(iteration), path }
}

/**
 * The toolchain's own warnings. Those of Python's `warnings` are about code, come from every rank, and would bury the
 * rest; they stay in the log.
 */
function isWarning(text: string): boolean {
  return text.includes('WARNING') && /(^|\s|\])(>\s*)?WARNING\b(?!:(torch|root|accelerate))/.test(text)
}
