import { letterRanges, numberRanges } from './unicode.generated.ts'

/** `\p{L}` */
export const letter = 1
/** `\p{N}` */
export const number = 2
/** `\s`: Unicode White_Space, so U+0085 is one and U+FEFF is none. */
export const space = 4
/** `[\r\n]`; always a `space` as well. */
export const newline = 8
/** Half of a surrogate pair: the class is that of the pair's code point. */
export const surrogate = 16

/**
 * Class of every code point, as the split patterns tell them apart; 0 is anything else (punctuation, marks, emoji).
 *
 * The tables are our own and not the engine's `\p{L}`, because those change with the version of Node, and a dataset
 * must not. Source: Oniguruma, which Hugging Face tokenizers split with.
 */
export function characterClasses(): Uint8Array {
  const classes = new Uint8Array(0x110000)
  fill(classes, letterRanges, letter)
  fill(classes, numberRanges, number)
  for (const codePoint of whiteSpace) classes[codePoint] = space
  classes[0x0a] = space | newline
  classes[0x0d] = space | newline
  return classes.fill(surrogate, 0xd800, 0xe000)
}

const whiteSpace = [
  0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x20, 0x85, 0xa0, 0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006,
  0x2007, 0x2008, 0x2009, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000,
]

function fill(classes: Uint8Array, ranges: string, value: number): void {
  let end = 0
  const numbers = ranges.split(' ').map(text => Number.parseInt(text, 36))
  for (let i = 0; i < numbers.length; i += 2) {
    const start = end + (numbers[i] ?? 0)
    end = start + (numbers[i + 1] ?? 0)
    classes.fill(value, start, end)
  }
}
