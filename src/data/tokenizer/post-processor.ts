import { FormatError, UnsupportedError } from '../../errors.ts'
import { isId } from './bpe-model.ts'

/** Ids that are put before and after the ids of a text, when special tokens are wanted. */
export interface Template {
  readonly before: readonly number[]
  readonly after: readonly number[]
}

interface Json {
  readonly type?: unknown
  readonly processors?: unknown
  readonly single?: unknown
  readonly special_tokens?: unknown
}

/** @throws UnsupportedError for a kind that this version does not know; FormatError for a template that makes no sense. */
export function readPostProcessor(postProcessor: unknown, file: string): Template {
  if (postProcessor === null || postProcessor === undefined) return { before: [], after: [] }
  const { type, processors } = postProcessor as Json
  if (type === 'ByteLevel') return { before: [], after: [] } // It trims offsets, which nobody asks for here.
  if (type === 'TemplateProcessing') return readTemplate(postProcessor as Json, file)
  if (type === 'Sequence' && Array.isArray(processors)) {
    // The later steps wrap what the earlier ones made.
    return processors
      .map(step => readPostProcessor(step, file))
      .reduce((inner, outer) => ({
        before: [...outer.before, ...inner.before],
        after: [...inner.after, ...outer.after],
      }))
  }
  throw new UnsupportedError(
    `tokenizer.json adds special tokens with ${JSON.stringify(postProcessor).slice(0, 200)}, which this version does not know.`,
    { hint: 'Known are TemplateProcessing, ByteLevel, and Sequences of these.' },
  )
}

interface TemplatePiece {
  readonly Sequence?: { readonly id?: unknown }
  readonly SpecialToken?: { readonly id?: unknown }
}

function readTemplate({ single, special_tokens }: Json, file: string): Template {
  const pieces = Array.isArray(single) ? (single as TemplatePiece[]) : []
  const middle = pieces.findIndex(piece => piece?.Sequence?.id === 'A')
  if (middle < 0 || pieces.some((piece, i) => i !== middle && !piece?.SpecialToken)) {
    throw new FormatError({
      file,
      expected: 'one sequence A among special tokens in post_processor.single',
      found: JSON.stringify(single) ?? 'nothing',
    })
  }
  const idsOf = (piece: TemplatePiece): readonly number[] => {
    const name = String(piece.SpecialToken?.id)
    const ids = (special_tokens as Record<string, { ids?: unknown }> | undefined)?.[name]?.ids
    if (Array.isArray(ids) && ids.every(isId)) return ids
    throw new FormatError({
      file,
      expected: `ids of ${name} in post_processor.special_tokens`,
      found: JSON.stringify(ids) ?? 'nothing',
    })
  }
  return { before: pieces.slice(0, middle).flatMap(idsOf), after: pieces.slice(middle + 1).flatMap(idsOf) }
}
