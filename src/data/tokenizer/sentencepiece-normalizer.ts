import { createSectioner } from './added-tokens.ts'
import { type Charsmap, readCharsmap } from './charsmap.ts'
import { type Normalizer, readNormalizer } from './normalizer.ts'
import type { NormalizerSpec, SentencePieceModel } from './sentencepiece-model.ts'

const mark = '▁'

/** What sentencepiece's normalizer is made of. Plain data. */
export interface SentencePieceNormalizerSpec {
  readonly kind: 'sentencepiece'
  readonly file: string
  readonly rules: NormalizerSpec
  /** What a user defined, which is left as it is. */
  readonly symbols: readonly string[]
}

/** @throws FormatError for rules that do not fit together. */
export function sentencePieceNormalizerSpec(model: SentencePieceModel): SentencePieceNormalizerSpec {
  const { file, pieces, normalizer: rules } = model
  const symbols = pieces.flatMap(({ text, kind }) => (kind === 'userDefined' ? [text] : []))
  readCharsmap(rules.charsmap, file)
  return { kind: 'sentencepiece', file, rules, symbols }
}

/** Rules that only put something in front and mark spaces, as `tokenizer.json` has them; undefined for others. */
export function plainSteps({ file, rules }: SentencePieceNormalizerSpec): unknown {
  if (readCharsmap(rules.charsmap, file) || rules.removeExtraWhitespaces) return undefined
  const space = rules.escapeWhitespaces ? mark : ' '
  return {
    type: 'Sequence',
    normalizers: [
      ...(rules.addDummyPrefix ? [{ type: 'Prepend', prepend: space }] : []),
      { type: 'Replace', pattern: { String: ' ' }, content: space },
    ],
  }
}

/** What sentencepiece does to text before it looks for pieces. Source: normalizer.cc, `Normalizer::Normalize`. */
export function sentencePieceNormalizer(whole: SentencePieceNormalizerSpec): Normalizer {
  const { file, rules: spec, symbols } = whole
  const plain = plainSteps(whole)
  if (plain) return readNormalizer(plain)
  const charsmap = readCharsmap(spec.charsmap, file)
  const space = spec.escapeWhitespaces ? mark : ' '
  const sections = createSectioner(
    symbols.map((text, id) => ({ pattern: text, token: { ...asIs, content: text, id } })),
  )
  const apply = (text: string) => {
    let done = ''
    let isAfterSpace = spec.removeExtraWhitespaces
    const add = (part: string) => {
      const kept = isAfterSpace ? part.replace(/^ +/, '') : part
      done += kept
      if (kept !== '') isAfterSpace = spec.removeExtraWhitespaces && kept.endsWith(' ')
    }
    for (const section of sections(text)) {
      if (section.id !== undefined) add(symbols[section.id] as string)
      else for (const part of charsmap ? replaceAll(section.text, charsmap) : partsOf(section.text)) add(part)
    }
    if (text === '' || (spec.removeExtraWhitespaces && done === '')) return ''
    const whole = `${spec.addDummyPrefix ? space : ''}${done.replaceAll(' ', space)}`
    return spec.removeExtraWhitespaces ? trimEnd(whole, space) : whole
  }
  return { apply, applyEarly: apply }
}

const asIs = { singleWord: false, lstrip: false, rstrip: false, normalized: false, special: false }

/** Runs of spaces, apart from what stands between them. */
function partsOf(text: string): readonly string[] {
  return text.match(/ |[^ ]+/g) ?? []
}

function* replaceAll(text: string, charsmap: Charsmap): Generator<string> {
  const bytes = Buffer.from(text, 'utf8')
  for (let at = 0; at < bytes.length; ) {
    const rule = charsmap(bytes, at)
    const lead = bytes[at] as number
    const length = rule?.length ?? (lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4)
    yield rule ? Buffer.from(rule.replacement).toString('utf8') : bytes.toString('utf8', at, at + length)
    at += length
  }
}

function trimEnd(text: string, space: string): string {
  let end = text.length
  while (text.endsWith(space, end) && end > 0) end -= space.length
  return text.slice(0, end)
}
