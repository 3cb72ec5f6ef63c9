/** What Python's `str.isspace` takes for white space: unlike JavaScript's, with separators and U+0085, without U+FEFF. */
const space = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]'
const start = new RegExp(`^${space}+`)
const spaceCharacter = new RegExp(space)

/** Python's `str.strip`. */
export function strip(text: string): string {
  let end = text.length
  while (end > 0 && spaceCharacter.test(text[end - 1] ?? '')) end--
  return text.slice(0, end).replace(start, '')
}
