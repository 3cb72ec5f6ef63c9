import { type Normalizer, readNormalizer, readSimpleSteps, type SimpleSteps } from './normalizer.ts'
import { plainSteps, type SentencePieceNormalizerSpec, sentencePieceNormalizer } from './sentencepiece-normalizer.ts'

/** How a normalizer is made, as plain data: functions cannot be handed to threads. */
export type NormalizerSpec = { readonly kind: 'json'; readonly json: unknown } | SentencePieceNormalizerSpec

/** The normalizer of `tokenizer.json`. @throws UnsupportedError when it has a part that this version does not know. */
export function normalizerSpec(json: unknown): NormalizerSpec {
  readNormalizer(json)
  return { kind: 'json', json }
}

export function createNormalizer(spec: NormalizerSpec): Normalizer {
  return spec.kind === 'json' ? readNormalizer(spec.json) : sentencePieceNormalizer(spec)
}

/** The steps of a normalizer that does no more than such; undefined for another. */
export function simpleSteps(spec: NormalizerSpec): SimpleSteps | undefined {
  const json = spec.kind === 'json' ? spec.json : plainSteps(spec)
  return json === undefined ? undefined : readSimpleSteps(json)
}
