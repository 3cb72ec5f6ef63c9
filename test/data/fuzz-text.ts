/** Characters that trouble tokenizers, by the trouble they make. */
const alphabets = [
  'abcdefghijklmnopqrstuvwxyz ',
  'The quick brown fox 0123456789',
  ' \t\n\r\v\f\u0085\u00a0\u1680\u2000\u2028\u3000\u200b\ufeff',
  "'sStTrReEvVmMlLdDſ’ ",
  '.,;:!?()[]{}<>|/\\"#$%^&*-_=+~`@ ',
  '的一是不了在人有我他训练数据模型你好世界今天',
  'áéíóúñçüößøåæœ',
  'абвгдежзийклмнопрстуфхцчшщъыьэюя ',
  'العربية नमस्ते 한국어 ひらがな',
  'ᾳᾴΐΰ\u0301\u0300\u0308\u0327\u0345e\u0301o\u0302\u212b\u1112\u1161\u11ab',
  '😀😂👍🏽👨‍👩‍👧‍👦🇨🇳🀄𠀀𠮷𝔸𝟘𐍈',
  '\u0000\u0001\u001f\u007f\u0080\u009f',
  '١٢٣²³½Ⅷ①',
  '▁▁ _',
  '\udc00\udfff \ud83d\ud800',
].map(characters => [...characters])

/**
 * `count` strings that are the same for the same seed; `words` are sprinkled in as they are (tokens, say). One in two
 * thousand is very long, tens of thousands of characters, and most of it one word.
 */
export function fuzzTexts(count: number, { seed, words }: { seed: number; words: readonly string[] }): string[] {
  let state = seed
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
  const below = (limit: number) => Math.floor(random() * limit)
  const pick = <T>(list: readonly T[]) => list[below(list.length)] as T
  const part = (): string => {
    const many = (limit: number, make: () => string) => Array.from({ length: 1 + below(limit) }, make).join('')
    switch (below(6)) {
      case 0: {
        const alphabet = pick(alphabets)
        return many(random() < 0.05 ? 300 : 20, () => pick(alphabet))
      }
      case 1:
        return many(10, () => pick(pick(alphabets)))
      case 2:
        return pick([' ', '\n', '\t', 'a', '中', 'é', '=', '0', '😀']).repeat(1 + below(random() < 0.05 ? 600 : 12))
      case 3:
        return ' '.repeat(below(4)) + pick(words) + ' '.repeat(below(4))
      case 4:
        return many(4, () => pick(words))
      default:
        return many(6, () => String.fromCodePoint(below(0x110000)))
    }
  }
  const long = (): string => {
    const length = 10_000 + below(50_000)
    const alphabet = pick(alphabets)
    switch (below(4)) {
      case 0:
        return pick(alphabet).repeat(length)
      case 1:
        return Array.from({ length }, () => pick(alphabet)).join('')
      case 2:
        return Array.from({ length: length >> 3 }, () => pick(words)).join('')
      default:
        return pick(words).repeat(length >> 3)
    }
  }
  const text = () => Array.from({ length: 1 + below(6) }, part).join('')
  return Array.from({ length: count }, () => (random() < 0.0005 ? text() + long() + text() : text()))
}
