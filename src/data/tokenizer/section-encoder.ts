import type { BpeModel } from './bpe-model.ts'
import { type ByteLevelTables, byteLevelTables, createByteLevelEncoder } from './byte-level.ts'
import { type CharacterTables, characterTables, createCharacterEncoder } from './character-level.ts'
import type { EncodingBuffers, PieceEncoder } from './encoding-buffers.ts'
import type { UnitReplacement } from './normalizer.ts'
import type { PreTokenizer } from './pre-tokenizer.ts'
import { splitterFor } from './split-pattern.ts'
import { createUnigramEncoder, type UnigramTables } from './unigram.ts'

/** Appends the ids of a section of text (what lies between added tokens) to the buffers' ids. */
export type SectionEncoder = (section: { readonly text: string; readonly isStart: boolean }) => void

/** What an encoder of pieces looks up. Plain data that can be handed to threads. */
export type PieceTables = ByteLevelTables | CharacterTables | UnigramTables

/** Tables that fit a BPE model and how its text is cut. */
export function bpeTables(model: BpeModel, { kind }: PreTokenizer): PieceTables {
  return kind === 'byteLevel' ? byteLevelTables(model) : characterTables(model)
}

export function createPieceEncoder(tables: PieceTables, buffers: EncodingBuffers): PieceEncoder {
  if (tables.kind === 'unigram') return createUnigramEncoder(tables, buffers)
  return tables.kind === 'characters'
    ? createCharacterEncoder(tables, buffers)
    : createByteLevelEncoder(tables, buffers)
}

/** Copies each section once into UTF-16 code units, cuts it into pieces and encodes those. */
export function createSectionEncoder(
  {
    encodePiece,
    preTokenizer,
    replace,
  }: { encodePiece: PieceEncoder; preTokenizer: PreTokenizer; replace: UnitReplacement | undefined },
  buffers: EncodingBuffers,
): SectionEncoder {
  const load = createLoader(buffers)
  const loadNormalized = (text: string) => {
    const end = load(text)
    if (replace) replaceUnits(buffers.units, end, replace)
    return end
  }
  switch (preTokenizer.kind) {
    case 'none':
      return ({ text }) => encodePiece(0, loadNormalized(text))
    case 'byteLevel': {
      const { addPrefixSpace } = preTokenizer
      const split = preTokenizer.pattern === undefined ? undefined : splitterFor(preTokenizer.pattern)
      return ({ text }) => {
        const end = loadNormalized(addPrefixSpace && !text.startsWith(' ') ? ` ${text}` : text)
        if (!split) return encodePiece(0, end)
        for (let start = 0; start < end; ) {
          const stop = split(buffers.units, start, end)
          encodePiece(start, stop)
          start = stop
        }
      }
    }
    case 'metaspace': {
      const { replacement, prepend, split, isCutAtSpaces } = preTokenizer
      const mark = String.fromCharCode(replacement)
      const encode: SectionEncoder = ({ text, isStart }) => {
        const wanted = prepend === 'always' || (prepend === 'first' && isStart)
        const end = loadNormalized(wanted && !text.startsWith(' ') && !text.startsWith(mark) ? mark + text : text)
        replaceUnits(buffers.units, end, { from: 0x20, to: replacement })
        if (!split) return encodePiece(0, end)
        for (let start = 0; start < end; ) {
          let stop = start + 1
          while (stop < end && buffers.units[stop] !== replacement) stop++
          encodePiece(start, stop)
          start = stop
        }
      }
      if (!isCutAtSpaces) return encode
      return ({ text, isStart }) => {
        for (const word of text.split(/\p{White_Space}+/u)) if (word !== '') encode({ text: word, isStart })
      }
    }
  }
}

/** Copies text into the buffers' units, grown where they are too few; returns its length. */
function createLoader(buffers: EncodingBuffers): (text: string) => number {
  let view = Buffer.from(buffers.units.buffer)
  return text => {
    if (text.length > buffers.units.length) {
      buffers.units = new Uint16Array(2 * text.length)
      view = Buffer.from(buffers.units.buffer)
    }
    view.write(text, 'utf16le')
    return text.length
  }
}

function replaceUnits(units: Uint16Array, end: number, { from, to }: UnitReplacement): void {
  for (let i = 0; i < end; i++) if (units[i] === from) units[i] = to
}
