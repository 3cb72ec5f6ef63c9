import { type EncodingBuffers, type PieceEncoder, reserveIds } from './encoding-buffers.ts'
import type { SentencePieceModel } from './sentencepiece-model.ts'

/** Added to the lowest score for a character without a piece. Source: sentencepiece, unigram_model.cc, `kUnkPenalty`. */
const unkPenalty = 10

/** A sum beyond this, either way, is taken off all sums that count, lest long texts outgrow 32-bit floats. */
const farSum = 100_000

/** For each byte but the first of what a user defined. */
const userDefinedScore = 0.1

/** What the encoder needs of a SentencePiece model. Plain data. */
export interface UnigramTables extends Pick<SentencePieceModel, 'pieces' | 'unkId'> {
  readonly kind: 'unigram'
  /** Under which id each piece comes out. */
  readonly ids: Int32Array
  /** Ids of the bytes that a character without a piece becomes; absent: it stays unknown. */
  readonly byteIds?: readonly number[] | undefined
  /** `tokenizers` keeps sums as 64-bit floats, and takes unknown characters in a row for a piece where they spell one. */
  readonly library: 'sentencepiece' | 'tokenizers'
}

/** `idOf` says under which id a piece comes out. */
export function unigramTables(
  { pieces, unkId, byteFallback }: SentencePieceModel,
  idOf: (text: string, id: number) => number,
): UnigramTables {
  const byteIdOf = (_: unknown, byte: number) => {
    const text = `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`
    return idOf(
      text,
      pieces.findIndex(piece => piece.text === text),
    )
  }
  const ids = Int32Array.from(pieces, ({ text }, id) => idOf(text, id))
  return {
    kind: 'unigram',
    library: 'sentencepiece',
    pieces,
    unkId,
    ids,
    byteIds: byteFallback ? Array.from({ length: 256 }, byteIdOf) : undefined,
  }
}

/**
 * The pieces whose scores add up highest, found as sentencepiece finds them: in one pass over the text, sums kept as
 * 32-bit floats, of equal ones the earlier; and as tokenizers does (models/unigram/model.rs, `encode_optimized`).
 * Source: sentencepiece 0.2.2, `Model::EncodeOptimized`; `farSum` and `userDefinedScore` as measured with models made for that.
 */
export function createUnigramEncoder(
  { pieces, unkId, byteIds, ids, library }: UnigramTables,
  buffers: EncodingBuffers,
): PieceEncoder {
  const usable = pieces.flatMap(({ text, kind }, id) =>
    kind === 'normal' || kind === 'userDefined' ? [{ text, id }] : [],
  )
  const trie = createTrie(usable)
  const normal = pieces.filter(({ kind }) => kind === 'normal').map(({ score }) => score)
  const lowest = normal.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)
  const isExact = library === 'tokenizers'
  const round = isExact ? (sum: number) => sum : Math.fround
  const wholes = new Map(isExact ? usable.map(({ text, id }) => [text, id]) : [])
  const unkScore = round(round(lowest) - unkPenalty)
  const scores = Float64Array.from(pieces, ({ text, score, kind }) =>
    kind === 'userDefined' ? Math.fround(userDefinedScore * (Buffer.byteLength(text) - 1)) : score,
  )
  const createSums = (length: number) => (isExact ? new Float64Array(length) : new Float32Array(length))
  let sums = createSums(0)
  let starts = new Int32Array(0)
  let best = new Int32Array(0)

  return (start, end) => {
    const { units } = buffers
    const length = end - start
    if (sums.length <= length) {
      sums = createSums(2 * length + 2)
      starts = new Int32Array(2 * length + 2)
      best = new Int32Array(2 * length + 2)
    }
    starts.fill(-1, 0, length + 1)
    sums[0] = 0
    let reach = 0
    const offer = (to: number, { from, id, sum }: { from: number; id: number; sum: number }) => {
      if ((starts[to] as number) >= 0 && sum <= (sums[to] as number)) return
      reach = Math.max(reach, to)
      sums[to] = sum
      starts[to] = from
      best[to] = id
    }
    for (let from = 0; from < length; ) {
      const unit = units[start + from] as number
      const width = unit >= 0xd800 && unit < 0xdc00 ? 2 : 1
      let here = sums[from] as number
      if (!isExact && Math.abs(here) > farSum) {
        for (let to = from + 1; to <= reach; to++) sums[to] = (sums[to] as number) - here
        here = 0
      }
      let hasSingle = false
      let node = 0
      for (let to = from; to < length; ) {
        node = trie.step(node, units[start + to] as number)
        if (node < 0) break
        to++
        const id = trie.pieceAt(node)
        if (id < 0) continue
        offer(to, { from, id, sum: round((scores[id] as number) + here) })
        if (to - from === width) hasSingle = true
      }
      if (!hasSingle) offer(from + width, { from, id: unkId, sum: round(unkScore + here) })
      from += width
    }
    let count = 0
    // The path backwards: `starts` becomes the list of ends.
    const ends: number[] = []
    for (let to = length; to > 0; to = starts[to] as number) ends[count++] = to
    reserveIds(buffers, 4 * count)
    ends.reverse()
    for (let i = 0; i < ends.length; i++) {
      const id = best[ends[i] as number] as number
      if (id !== unkId) {
        buffers.ids[buffers.length++] = ids[id] as number
        continue
      }
      const from = starts[ends[i] as number] as number
      while (best[ends[i + 1] as number] === unkId) i++
      pushUnknown(textOf(units, start + from, start + (ends[i] as number)))
    }
  }

  function pushUnknown(text: string): void {
    const whole = wholes.get(text)
    if (whole === undefined && byteIds) {
      for (const byte of Buffer.from(text)) buffers.ids[buffers.length++] = byteIds[byte] as number
    } else buffers.ids[buffers.length++] = ids[whole ?? unkId] as number
  }
}

function textOf(units: Uint16Array, start: number, end: number): string {
  return Buffer.from(units.buffer, units.byteOffset + 2 * start, 2 * (end - start)).toString('utf16le')
}

/** A trie over code units: edges by open addressing, nodes by number. */
function createTrie(entries: readonly { readonly text: string; readonly id: number }[]) {
  const unitCount = entries.reduce((sum, { text }) => sum + text.length, 0)
  const mask = (1 << Math.max(4, Math.ceil(Math.log2(2 * unitCount + 2)))) - 1
  // Node, unit and next node of each edge; a next node of 0 is an empty slot.
  const slots = new Int32Array(3 * (mask + 1))
  const ids = new Int32Array(unitCount + 1).fill(-1)
  let nodes = 1
  const find = (node: number, unit: number) => {
    let slot = Math.imul(Math.imul(node, 0x9e3779b1) ^ unit, 0x85ebca6b)
    slot = (slot ^ (slot >>> 15)) & mask
    for (;;) {
      const at = 3 * slot
      if (slots[at + 2] === 0 || (slots[at] === node && slots[at + 1] === unit)) return at
      slot = (slot + 1) & mask
    }
  }
  for (const { text, id } of entries) {
    let node = 0
    for (let i = 0; i < text.length; i++) {
      const at = find(node, text.charCodeAt(i))
      if (slots[at + 2] === 0) {
        slots[at] = node
        slots[at + 1] = text.charCodeAt(i)
        slots[at + 2] = nodes++
      }
      node = slots[at + 2] as number
    }
    ids[node] = id
  }
  return {
    /** The node behind the edge, or -1. */
    step(node: number, unit: number) {
      return (slots[find(node, unit) + 2] as number) || -1
    },
    /** The piece that ends at the node, or -1. */
    pieceAt: (node: number) => ids[node] as number,
  }
}
