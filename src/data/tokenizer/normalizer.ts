import { UnsupportedError } from '../../errors.ts'
import { readCharsmap } from './charsmap.ts'

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

/** A normalizer that does no more than this, in this order. */
export interface SimpleSteps {
  readonly isNfc: boolean
  readonly prefix: string
  readonly replace?: UnitReplacement | undefined
}

/** The steps of a normalizer that has no others; undefined for one that has. */
export function readSimpleSteps(normalizer: unknown): SimpleSteps | undefined {
  const rest = flatten(normalizer)
  const isNfc = rest[0]?.type === 'NFC'
  if (isNfc) rest.shift()
  const prefix = rest[0]?.type === 'Prepend' ? rest.shift()?.prepend : ''
  const replace = rest[0] && readStep(rest[0]).units
  if (typeof prefix !== 'string' || rest.length > (replace ? 1 : 0)) return undefined
  return { isNfc, prefix, replace }
}

interface Json {
  readonly type?: unknown
  readonly normalizers?: unknown
  readonly prepend?: unknown
  readonly pattern?: unknown
  readonly content?: unknown
  readonly precompiled_charsmap?: unknown
  readonly strip_left?: unknown
  readonly strip_right?: unknown
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
  if (type === 'Precompiled' && typeof json.precompiled_charsmap === 'string') {
    return { apply: precompiled(Buffer.from(json.precompiled_charsmap, 'base64')) }
  }
  if (type === 'Strip') {
    const [left, right] = [json.strip_left === true, json.strip_right === true]
    return { apply: text => strip(text, { left, right }) }
  }
  if (type === 'Replace' && (json.pattern as { Regex?: unknown })?.Regex === ' {2,}' && typeof content === 'string') {
    return { apply: text => text.replace(/ {2,}/g, () => content) }
  }
  throw new UnsupportedError(
    `tokenizer.json normalizes with ${JSON.stringify(json).slice(0, 200)}, which this version does not know.`,
    {
      hint: 'Known are NFC, NFD, NFKC, NFKD, Precompiled, Prepend, Strip, Replace of a string, and Sequences of these.',
    },
  )
}

/**
 * Rules of sentencepiece as tokenizers applies them: to each grapheme of less than six bytes as a whole, or else to each
 * of its characters; the shortest rule that it begins with replaces all of it. Source: spm_precompiled, `Precompiled`.
 */
function precompiled(blob: Uint8Array): (text: string) => string {
  const charsmap = readCharsmap(blob, 'tokenizer.json', { shortest: true })
  const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' })
  const replaced = (part: string) => {
    const rule = charsmap?.(Buffer.from(part), 0)
    return rule && Buffer.from(rule.replacement).toString('utf8')
  }
  return text => {
    let done = ''
    for (const { segment } of graphemes.segment(text)) {
      const whole = Buffer.byteLength(segment) < 6 ? replaced(segment) : undefined
      if (whole !== undefined) done += whole
      else for (const character of segment) done += replaced(character) ?? character
    }
    return done
  }
}

function strip(text: string, { left, right }: { left: boolean; right: boolean }): string {
  const start = left ? text.replace(/^\p{White_Space}+/u, '') : text
  if (!right) return start
  let end = start.length
  while (end > 0 && /\p{White_Space}/u.test(start[end - 1] as string)) end--
  return start.slice(0, end)
}
