import { FormatError } from '../../errors.ts'

/** Length of the longest rule (or of the shortest, where that is asked for) that starts at `at`, and what it writes there; undefined when no rule does. */
export type Charsmap = (text: Uint8Array, at: number) => { length: number; replacement: Uint8Array } | undefined

/**
 * The replacement rules that sentencepiece compiles: the size of a double-array trie (a 32-bit number), the trie, and
 * the replacements, each ended by a zero byte. Source: sentencepiece, normalizer.cc, and Darts-clone, `DoubleArrayUnit`.
 * @throws FormatError when sizes or places do not fit.
 */
export function readCharsmap(
  blob: Uint8Array,
  file: string,
  { shortest = false }: { shortest?: boolean } = {},
): Charsmap | undefined {
  if (blob.length === 0) return undefined
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength)
  const trieBytes = blob.length >= 4 ? view.getUint32(0, true) : 0
  if (trieBytes < 4 || trieBytes % 4 !== 0 || trieBytes > blob.length - 4) {
    const expected = `a trie of whole numbers within the ${blob.length} bytes of precompiled_charsmap`
    throw new FormatError({ file, expected, found: `${trieBytes} bytes` })
  }
  const units = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => view.getUint32(4 + 4 * i, true))
  const texts = blob.subarray(4 + trieBytes)
  const replacementAt = (start: number) => {
    const end = start < texts.length ? texts.indexOf(0, start) : -1
    if (end >= 0) return texts.subarray(start, end)
    const expected = `a replacement within ${texts.length} bytes of precompiled_charsmap`
    throw new FormatError({ file, expected, found: `one at ${start} that does not end` })
  }
  const offsetOf = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6)
  return (text, at) => {
    let node = offsetOf(units[0] as number)
    let longest: { length: number; value: number } | undefined
    for (let i = at; i < text.length; i++) {
      const byte = text[i] as number
      node ^= byte
      const unit = units[node] ?? 0
      // The label with its leaf bit: a leaf is no step.
      if ((unit & 0x800000ff) !== byte || byte === 0) break
      node ^= offsetOf(unit)
      if ((unit & 0x100) !== 0) longest = { length: i + 1 - at, value: (units[node] ?? 0) & 0x7fffffff }
      if (shortest && longest) break
    }
    return longest && { length: longest.length, replacement: replacementAt(longest.value) }
  }
}
