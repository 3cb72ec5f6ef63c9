import { UnsupportedError } from '../../errors.ts'
import { characterBytes } from './byte-alphabet.ts'

/** Text of a list of tokens. For messages and tests: speed is no aim. */
export type Decoder = (tokens: readonly string[]) => string

interface Json {
  readonly type?: unknown
  readonly decoders?: unknown
  readonly pattern?: { readonly String?: unknown }
  readonly content?: unknown
  readonly start?: unknown
  readonly stop?: unknown
  readonly replacement?: unknown
  readonly prepend_scheme?: unknown
  readonly add_prefix_space?: unknown
}

/** The decoder of `tokenizer.json`; one that this version does not know throws when it is used. */
export function readDecoder(decoder: unknown): Decoder {
  if (decoder === null || decoder === undefined) return tokens => tokens.join(' ')
  return tokens => decodeStep(decoder as Json, tokens).join('')
}

function decodeStep(step: Json, tokens: readonly string[]): readonly string[] {
  const { type, decoders, pattern, content, start, stop } = step
  if (type === 'Sequence' && Array.isArray(decoders)) {
    return (decoders as Json[]).reduce((done, next) => decodeStep(next, done), tokens)
  }
  if (type === 'ByteLevel') return [decodeByteLevel(tokens)]
  if (type === 'ByteFallback') return decodeByteFallback(tokens)
  if (type === 'Fuse') return [tokens.join('')]
  if (type === 'Replace' && typeof pattern?.String === 'string') {
    const from = pattern.String
    return tokens.map(token => token.replaceAll(from, () => String(content)))
  }
  if (type === 'Strip' && typeof content === 'string') {
    return tokens.map(token => strip(token, { content, start: Number(start), stop: Number(stop) }))
  }
  if (type === 'Metaspace') {
    const prefixed = step.prepend_scheme !== 'never' && step.add_prefix_space !== false
    const mark = String(step.replacement)
    return tokens.map((token, i) => {
      const rest = i === 0 && prefixed && token.startsWith(mark) ? token.slice(mark.length) : token
      return rest.replaceAll(mark, ' ')
    })
  }
  throw new UnsupportedError(
    `tokenizer.json decodes with ${JSON.stringify(step).slice(0, 200)}, which this version does not know.`,
  )
}

function decodeByteLevel(tokens: readonly string[]): string {
  const bytes = tokens.flatMap(token => {
    const known = [...token].map(character => characterBytes.get(character))
    return known.includes(undefined) ? [...Buffer.from(token)] : (known as number[])
  })
  return Buffer.from(bytes).toString('utf8')
}

/** Runs of `<0xE4>` tokens become the characters that their bytes spell, or a replacement character for each byte. */
function decodeByteFallback(tokens: readonly string[]): string[] {
  const out: string[] = []
  let bytes: number[] = []
  const flush = () => {
    const text = Buffer.from(bytes).toString('utf8')
    out.push(...(Buffer.from(text).equals(Buffer.from(bytes)) ? [text] : bytes.map(() => '\ufffd')))
    bytes = []
  }
  for (const token of tokens) {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1]
    if (byte !== undefined) {
      bytes.push(Number.parseInt(byte, 16))
      continue
    }
    flush()
    out.push(token)
  }
  flush()
  return out
}

function strip(token: string, { content, start, stop }: { content: string; start: number; stop: number }): string {
  let [from, to] = [0, token.length]
  while (from < to && from < start && token[from] === content) from++
  while (to > from && token.length - to < stop && token[to - 1] === content) to--
  return token.slice(from, to)
}
