/** A token that is found in the text itself, before anything is split or merged. Source: tokenizers, AddedToken. */
export interface AddedToken {
  readonly id: number
  readonly content: string
  /** Only where no word character touches it. */
  readonly singleWord: boolean
  /** Takes the white space on its left (right) with it. */
  readonly lstrip: boolean
  readonly rstrip: boolean
  /** Looked for in the normalized text, by its own normalized content. */
  readonly normalized: boolean
  readonly special: boolean
}

/** A stretch of text, or an added token in its place. `start` is where the text stood. */
export type Section =
  | { readonly text: string; readonly start: number; readonly id?: undefined }
  | { readonly id: number }

/** Cuts text at added tokens: the leftmost match, of those the longest; sections without text are left out. */
export type Sectioner = (text: string) => readonly Section[]

/** Source of every rule here: tokenizers, added_vocabulary.rs, `find_matches`. */
export function createSectioner(
  tokens: readonly { readonly pattern: string; readonly token: AddedToken }[],
): Sectioner {
  const whole = (text: string): readonly Section[] => (text === '' ? [] : [{ text, start: 0 }])
  if (tokens.length === 0) return whole
  const byPattern = new Map(tokens.map(({ pattern, token }) => [pattern, token]))
  const lengths = [...new Set(tokens.map(({ pattern }) => pattern.length))].sort((a, b) => b - a)
  const beginnings = new Set(tokens.map(({ pattern }) => pattern.slice(0, 2)))
  const firstUnits = [...new Set(tokens.map(({ pattern }) => pattern.charCodeAt(0)))]
  const candidate = new RegExp(`[${firstUnits.map(unit => `\\u${unit.toString(16).padStart(4, '0')}`).join('')}]`, 'g')

  const matchAt = (text: string, at: number): { pattern: string; token: AddedToken } | undefined => {
    if (!beginnings.has(text.slice(at, at + 2)) && !beginnings.has(text[at] as string)) return undefined
    for (const length of lengths) {
      const pattern = text.slice(at, at + length)
      const token = byPattern.get(pattern)
      if (token) return { pattern, token }
    }
    return undefined
  }

  return text => {
    candidate.lastIndex = 0
    if (!candidate.test(text)) return whole(text)
    const sections: Section[] = []
    let done = 0
    candidate.lastIndex = 0
    for (let found = candidate.exec(text); found; found = candidate.exec(text)) {
      const match = matchAt(text, found.index)
      if (!match) continue
      const { pattern, token } = match
      let [start, stop] = [found.index, found.index + pattern.length]
      candidate.lastIndex = stop
      if (token.singleWord && (endsWithWord(text, start) || startsWithWord(text, stop))) continue
      if (token.lstrip) {
        while (start > 0 && isWhiteSpace(text[start - 1] as string)) start--
        start = Math.max(start, done)
      }
      if (token.rstrip) while (stop < text.length && isWhiteSpace(text[stop] as string)) stop++
      if (done < start) sections.push({ text: text.slice(done, start), start: done })
      sections.push({ id: token.id })
      done = stop
    }
    if (done < text.length) sections.push({ text: text.slice(done), start: done })
    return sections
  }
}

/** As Rust's `regex` has it. */
const word = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]/u

function startsWithWord(text: string, at: number): boolean {
  return word.test(text.slice(at, at + 2))
}

function endsWithWord(text: string, at: number): boolean {
  const isPair = at > 1 && /[\udc00-\udfff]/.test(text[at - 1] as string)
  return at > 0 && word.test(text.slice(at - (isPair ? 2 : 1), at))
}

function isWhiteSpace(unit: string): boolean {
  return /\p{White_Space}/u.test(unit)
}
