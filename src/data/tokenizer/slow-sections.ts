import { type AddedToken, createSectioner, type Section, type Sectioner } from './added-tokens.ts'

/**
 * Cuts text at added tokens as a tokenizer written in Python does: the white space that a token takes with it vanishes,
 * and a token that must stand alone but touches something other than a space joins that neighbour as text, where the
 * text stays cut. Source: transformers 4.57, tokenization_utils.py, `PreTrainedTokenizer.tokenize`.
 */
export function createSlowSectioner(tokens: readonly AddedToken[]): Sectioner {
  const byContent = new Map(tokens.map(token => [token.content, token]))
  const byId = new Map(tokens.map(token => [token.id, token]))
  const plain = { singleWord: false, lstrip: false, rstrip: false }
  const cut = createSectioner(tokens.map(token => ({ pattern: token.content, token: { ...token, ...plain } })))
  const needsCare = tokens.some(({ singleWord, lstrip, rstrip }) => singleWord || lstrip || rstrip)
  return text => {
    const sections = cut(text)
    if (!needsCare || sections.every(({ id }) => id === undefined)) return sections
    const parts = sections.map(part => (part.id === undefined ? part.text : (byId.get(part.id) as AddedToken).content))
    for (let i = 0; i < parts.length; i++) {
      const content = parts[i] as string
      const token = byContent.get(content)
      if (!token) continue
      const [left, right] = [parts[i - 1] ?? '', parts[i + 1] ?? '']
      if (token.rstrip && right !== '') parts[i + 1] = right.replace(spacesAtStart, '')
      if (token.lstrip && left !== '') parts[i - 1] = left.replace(spacesAtEnd, '')
      if (!token.singleWord) continue
      if (left !== '' && !left.endsWith(' ')) {
        parts[i - 1] += content
        parts[i] = ''
      } else if (right !== '' && !right.startsWith(' ')) {
        parts[i + 1] = content + parts[i + 1]
        parts[i] = ''
      }
    }
    return parts.flatMap((part, start): Section[] => {
      const token = byContent.get(part)
      return token ? [{ id: token.id }] : part === '' ? [] : [{ text: part, start }]
    })
  }
}

/** As Python's `str.isspace` has it: Unicode's white space and four separators of ASCII. */
const pythonSpaces = '[\\p{White_Space}\\u001c-\\u001f]+'
const spacesAtStart = new RegExp(`^${pythonSpaces}`, 'u')
const spacesAtEnd = new RegExp(`${pythonSpaces}$`, 'u')
