import { UnsupportedError } from '../../errors.ts'
import { characterClasses, letter, newline, number, space, surrogate } from './character-class.ts'

/** End of the piece that starts at `start`, in UTF-16 code units; `end` is the end of the text. No lone surrogates. */
export type Splitter = (units: Uint16Array, start: number, end: number) => number

const gpt2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

/** Around `\p{N}` or `\p{N}{1,3}` in the patterns that descend from GPT-4's. */
const gpt4Start = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|`
const gpt4End = String.raw`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

/** The pattern of Qwen (digits one by one) and of Llama 3 and GLM-4 (up to three). */
export function gpt4Pattern(maxDigits: 1 | 3): string {
  return `${gpt4Start}${maxDigits === 1 ? String.raw`\p{N}` : String.raw`\p{N}{1,3}`}${gpt4End}`
}

/** The pattern of the `ByteLevel` pre-tokenizer when it says `use_regex`. */
export const byteLevelPattern = gpt2

const splitters: Readonly<Record<string, () => Splitter>> = {
  [gpt2]: gpt2Splitter,
  [gpt4Pattern(1)]: () => gpt4Splitter(1),
  [gpt4Pattern(3)]: () => gpt4Splitter(3),
}

/** The known patterns, in the order of their numbers in the kernel, from 1. */
export const splitterKinds: readonly string[] = [gpt2, gpt4Pattern(1), gpt4Pattern(3)]

/** A hand-written machine for a known split pattern. @throws UnsupportedError for another. */
export function splitterFor(pattern: string): Splitter {
  const create = splitters[checkPattern(pattern)]
  if (create) return create()
  throw unknownPattern(pattern)
}

/**
 * The pattern, if there is a splitter for it. It is compared letter by letter: a pattern that is not known exactly is
 * refused, because a nearly right split would silently change every id.
 */
export function checkPattern(pattern: string): string {
  if (Object.hasOwn(splitters, pattern)) return pattern
  throw unknownPattern(pattern)
}

function unknownPattern(pattern: string): UnsupportedError {
  return new UnsupportedError(
    `tokenizer.json splits text with the pattern ${pattern}, which this version does not know.`,
    { hint: 'Known are the patterns of GPT-2, of Llama 3 and GLM-4, and of Qwen.' },
  )
}

function gpt4Splitter(maxDigits: number): Splitter {
  const classes = characterClasses()
  const { classAt, runEnd } = scanners(classes)
  return (units, start, end) => {
    const first = units[start] as number
    const kind = classAt(units, start)
    if (first === apostrophe) {
      const length = contractionLength(units, start, end, true)
      if (length > 0) return start + length
    }
    if (kind === letter) return runEnd(units, start, end, letter)
    const next = start + (first >= 0xd800 && first < 0xdc00 ? 2 : 1)
    if ((kind & (number | newline)) === 0 && next < end && classAt(units, next) === letter) {
      return runEnd(units, next, end, letter)
    }
    if (kind === number) {
      let at = next
      for (let digits = 1; digits < maxDigits && at < end && classAt(units, at) === number; digits++) {
        at += classes[units[at] as number] === surrogate ? 2 : 1
      }
      return at
    }
    if (kind === 0 || (first === 0x20 && next < end && classAt(units, next) === 0)) {
      let at = runEnd(units, kind === 0 ? start : next, end, 0)
      while (at < end && ((classes[units[at] as number] as number) & newline) !== 0) at++
      return at
    }
    let at = start
    let afterNewline = -1
    for (; at < end; at++) {
      const of = classes[units[at] as number] as number
      if ((of & space) === 0) break
      if ((of & newline) !== 0) afterNewline = at + 1
    }
    if (afterNewline >= 0) return afterNewline
    return at === end || at === start + 1 ? at : at - 1
  }
}

function gpt2Splitter(): Splitter {
  const classes = characterClasses()
  const { classAt, runEnd } = scanners(classes)
  return (units, start, end) => {
    const first = units[start] as number
    if (first === apostrophe) {
      const length = contractionLength(units, start, end, false)
      if (length > 0) return start + length
    }
    const body = first === 0x20 && start + 1 < end ? start + 1 : start
    const kind = classAt(units, body)
    if ((kind & space) === 0) return runEnd(units, body, end, kind)
    let at = start
    while (at < end && ((classes[units[at] as number] as number) & space) !== 0) at++
    return at === end || at === start + 1 ? at : at - 1
  }
}

const apostrophe = 0x27

/** Length of `'s 't 're 've 'm 'll 'd` at `start`, or 0. Ignoring case, the long s (U+017F) is an s as well. */
function contractionLength(units: Uint16Array, start: number, end: number, ignoreCase: boolean): number {
  if (start + 1 >= end) return 0
  const fold = (unit: number) => (ignoreCase && unit >= 0x41 && unit <= 0x5a ? unit + 32 : unit)
  const first = fold(units[start + 1] as number)
  if (first === 0x73 || first === 0x74 || first === 0x6d || first === 0x64) return 2
  if (ignoreCase && first === 0x17f) return 2
  if (start + 2 >= end) return 0
  const second = fold(units[start + 2] as number)
  if ((first === 0x72 || first === 0x76) && second === 0x65) return 3
  return first === 0x6c && second === 0x6c ? 3 : 0
}

function scanners(classes: Uint8Array) {
  const astral = (units: Uint16Array, at: number) =>
    classes[0x10000 + (((units[at] as number) & 0x3ff) << 10) + ((units[at + 1] as number) & 0x3ff)] as number
  const classAt = (units: Uint16Array, at: number) => {
    const kind = classes[units[at] as number] as number
    return kind === surrogate ? astral(units, at) : kind
  }
  const runEnd = (units: Uint16Array, start: number, end: number, wanted: number) => {
    let at = start
    while (at < end) {
      const kind = classes[units[at] as number] as number
      if (kind === wanted) at++
      else if (kind === surrogate && astral(units, at) === wanted) at += 2
      else break
    }
    return at
  }
  return { classAt, runEnd }
}
