import type { AddedToken } from './added-tokens.ts'
import { assignIds } from './added-vocabulary.ts'
import { characterTables } from './character-level.ts'
import { normalizerSpec } from './normalizer-spec.ts'
import { sentencePieceBpe } from './sentencepiece-bpe.ts'
import type { SentencePieceModel } from './sentencepiece-model.ts'
import { sentencePieceNormalizerSpec } from './sentencepiece-normalizer.ts'
import type { TokenizerConfig } from './tokenizer-config.ts'
import type { TokenizerParts } from './tokenizer-parts.ts'
import { unigramTables } from './unigram.ts'

/**
 * A tokenizer of a SentencePiece model. `idOf` says under which id a piece comes out. With `config`, the model's
 * control tokens are found in the text, as those of a tokenizer.json would be.
 */
export function sentencePieceParts(
  model: SentencePieceModel,
  { idOf, config }: { idOf: (text: string, id: number) => number; config?: TokenizerConfig },
): TokenizerParts {
  const { file, pieces, type, normalizer: spec } = model
  const vocab = new Map(pieces.map(({ text }, id) => [text, idOf(text, id)]))
  const plain = { singleWord: false, lstrip: false, rstrip: false, normalized: false }
  const tokensOf = (kind: string): AddedToken[] =>
    pieces.flatMap((piece, id) =>
      piece.kind === kind
        ? [{ ...plain, content: piece.text, id: idOf(piece.text, id), special: kind === 'control' }]
        : [],
    )
  const bpe = type === 'bpe' ? sentencePieceBpe(model, idOf) : undefined
  const isPlain = spec.charsmap.length === 0 && !spec.removeExtraWhitespaces
  const isFirstOnly = config !== undefined && !config.isLegacy && isPlain && spec.addDummyPrefix
  return {
    file,
    memory: bpe?.memory,
    vocab,
    tokens: config
      ? assignIds([...tokensOf('control'), ...tokensOf('userDefined'), ...config.added, ...config.specialTokens], vocab)
      : [],
    hidden: [],
    // BPE keeps what a user defined out of all merges; Unigram only scores it high.
    symbols: bpe ? tokensOf('userDefined') : [],
    isSlow: false,
    normalizer: isFirstOnly ? normalizerSpec(null) : sentencePieceNormalizerSpec(model),
    preTokenizer: isFirstOnly
      ? { kind: 'metaspace', replacement: '▁'.charCodeAt(0), prepend: 'first', split: false }
      : { kind: 'none' },
    tables: () => (bpe ? characterTables(bpe) : unigramTables(model, idOf)),
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(spec.addDummyPrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    template: { before: [], after: [] },
  }
}
