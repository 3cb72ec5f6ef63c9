import { UnsupportedError } from '../../errors.ts'

/** What `tokenizer.json` does to text before splitting it. */
export interface Normalizer {
  apply(text: string): string
  /** All but `lastUnits`. */
  applyEarly(text: string): string
  /** A last replacement of one code unit by another, which is cheaper done while the encoder passes over the units. */
  readonly lastUnits?: UnitReplacement | undefined
}

export interface UnitReplacement {
  readonly from: number
  readonly to: number
}

type Step = {
  readonly apply: (text: string) => string
  readonly units?: { readonly from: number; readonly to: number }
}

/** @throws UnsupportedError when it has a part that this version does not know. */
export function readNormalizer(normalizer: unknown): Normalizer {
  const steps = flatten(normalizer).map(readStep)
  const last = steps.at(-1)
  const early = last?.units ? steps.slice(0, -1) : steps
  return {
    apply: text => steps.reduce((done, step) => step.apply(done), text),
    applyEarly: text => early.reduce((done, step) => step.apply(done), text),
    lastUnits: last?.units,
  }
}

interface Json {
  readonly type?: unknown
  readonly normalizers?: unknown
  readonly prepend?: unknown
  readonly pattern?: unknown
  readonly content?: unknown
}

function flatten(normalizer: unknown): Json[] {
  if (normalizer === null || normalizer === undefined) return []
  const json = normalizer as Json
  return json.type === 'Sequence' && Array.isArray(json.normalizers) ? json.normalizers.flatMap(flatten) : [json]
}

function readStep(json: Json): Step {
  const { type, prepend, content } = json
  const pattern = (json.pattern as { String?: unknown } | undefined)?.String
  if (type === 'NFC' || type === 'NFD' || type === 'NFKC' || type === 'NFKD')
    return { apply: text => text.normalize(type) }
  if (type === 'Prepend' && typeof prepend === 'string') return { apply: text => (text === '' ? '' : prepend + text) }
  if (type === 'Replace' && typeof pattern === 'string' && pattern !== '' && typeof content === 'string') {
    const apply = (text: string) => text.replaceAll(pattern, () => content)
    const isUnit = pattern.length === 1 && content.length === 1
    return isUnit ? { apply, units: { from: pattern.charCodeAt(0), to: content.charCodeAt(0) } } : { apply }
  }
  throw new UnsupportedError(
    `tokenizer.json normalizes with ${JSON.stringify(json).slice(0, 200)}, which this version does not know.`,
    {
      hint: 'Known are NFC, NFD, NFKC, NFKD, Prepend, Replace of a string, and Sequences of these.',
    },
  )
}
