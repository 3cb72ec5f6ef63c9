import type { BpeModel } from './bpe-model.ts'
import { impliedMerges } from './implied-merges.ts'
import type { SentencePieceModel } from './sentencepiece-model.ts'
import { createTableMemory } from './table-memory.ts'

/**
 * The BPE model of a SentencePiece file: it merges by score of the piece that results, the leftmost of equal ones.
 * `idOf` says under which id a piece comes out. Source: sentencepiece, bpe_model.cc, `SampleEncode`.
 */
export function sentencePieceBpe(
  { file, pieces, unkId, byteFallback }: SentencePieceModel,
  idOf: (text: string, id: number) => number,
): BpeModel {
  const vocab = new Map<string, number>()
  const symbols = new Map<string, number>()
  pieces.forEach(({ text, kind }, id) => {
    if (kind === 'normal') symbols.set(text, idOf(text, id))
    if (kind === 'normal' || kind === 'byte' || kind === 'unknown') vocab.set(text, idOf(text, id))
  })
  // Characters that are no pieces but parts of some can still merge.
  const firstPartialId = [...vocab.values()].reduce((first, id) => Math.max(first, id + 1), pieces.length)
  const partial: number[] = []
  for (const { text, kind } of pieces) {
    if (kind !== 'normal') continue
    for (const character of text) {
      if (symbols.has(character)) continue
      symbols.set(character, firstPartialId + partial.length)
      vocab.set(character, firstPartialId + partial.length)
      partial.push(character.codePointAt(0) as number)
    }
  }
  const scores = [...new Set(pieces.map(({ score }) => score))].sort((a, b) => b - a)
  const rankOfScore = new Map(scores.map((score, rank) => [score, rank]))
  const tokens = pieces.flatMap(({ text, score, kind }, id) =>
    kind === 'normal' ? [[text, idOf(text, id), rankOfScore.get(score) as number] as const] : [],
  )
  return {
    file,
    memory: createTableMemory(),
    vocab,
    merges: impliedMerges(tokens, { symbols, file }),
    ...(partial.length > 0 ? { partial: { firstId: firstPartialId, codePoints: partial } } : {}),
    unkToken: pieces[unkId]?.text,
    fuseUnk: true,
    byteFallback,
    ignoreMerges: false,
  }
}
