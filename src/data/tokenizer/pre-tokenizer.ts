import { UnsupportedError } from '../../errors.ts'
import { byteLevelPattern, checkPattern } from './split-pattern.ts'

/** How `tokenizer.json` cuts text into the pieces that are merged apart. Plain data. */
export type PreTokenizer =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'byteLevel'
      /** One that `splitterFor` knows; absent: text is not split. */
      readonly pattern?: string | undefined
      readonly addPrefixSpace: boolean
    }
  | {
      readonly kind: 'metaspace'
      /** The code unit that stands for a space. */
      readonly replacement: number
      /** Which sections of the text, cut at added tokens, get one in front when they have none. */
      readonly prepend: 'always' | 'first' | 'never'
      /** Whether each replacement starts a new piece. */
      readonly split: boolean
      /** Whether text is cut at white space, which vanishes, before anything is put in front. */
      readonly isCutAtSpaces?: boolean | undefined
    }

interface Json {
  readonly type?: unknown
  readonly pretokenizers?: unknown
  readonly pattern?: unknown
  readonly behavior?: unknown
  readonly invert?: unknown
  readonly use_regex?: unknown
  readonly add_prefix_space?: unknown
  readonly prepend_scheme?: unknown
  readonly replacement?: unknown
  readonly split?: unknown
}

/** @throws UnsupportedError when it is of a form, or has a pattern, that this version does not know. */
export function readPreTokenizer(preTokenizer: unknown): PreTokenizer {
  if (preTokenizer === null || preTokenizer === undefined) return { kind: 'none' }
  const [head, ...rest] = flatten(preTokenizer as Json)
  const isCutAtSpaces = head?.type === 'WhitespaceSplit' && rest[0]?.type === 'Metaspace'
  const steps = isCutAtSpaces || !head ? rest : [head, ...rest]
  const [first, second] = steps
  const regex = (first?.pattern as { Regex?: unknown } | undefined)?.Regex
  if (steps.length === 1 && first?.type === 'ByteLevel') {
    const pattern = first.use_regex === false ? undefined : byteLevelPattern
    return { kind: 'byteLevel', pattern, addPrefixSpace: first.add_prefix_space !== false }
  }
  const isSplit = first?.type === 'Split' && first.behavior === 'Isolated' && first.invert === false
  const isPlain = second?.type === 'ByteLevel' && second.use_regex === false && second.add_prefix_space === false
  if (steps.length === 2 && isSplit && isPlain && typeof regex === 'string') {
    return { kind: 'byteLevel', pattern: checkPattern(regex), addPrefixSpace: false }
  }
  const { replacement } = first ?? {}
  if (
    steps.length === 1 &&
    first?.type === 'Metaspace' &&
    typeof replacement === 'string' &&
    replacement.length === 1
  ) {
    const prepend = first.add_prefix_space === false ? 'never' : (first.prepend_scheme ?? 'always')
    if (prepend === 'always' || (!isCutAtSpaces && (prepend === 'first' || prepend === 'never'))) {
      const plain = { replacement: replacement.charCodeAt(0), prepend, split: first.split !== false } as const
      return { kind: 'metaspace', ...plain, ...(isCutAtSpaces ? { isCutAtSpaces } : {}) }
    }
  }
  throw new UnsupportedError(
    `tokenizer.json splits text with ${JSON.stringify(preTokenizer).slice(0, 400)}, which this version does not know.`,
    {
      hint: 'Known are ByteLevel, a Split by a known pattern followed by ByteLevel, Metaspace (also behind WhitespaceSplit), and none.',
    },
  )
}

function flatten(json: Json): Json[] {
  return json.type === 'Sequence' && Array.isArray(json.pretokenizers) ? json.pretokenizers.flatMap(flatten) : [json]
}
