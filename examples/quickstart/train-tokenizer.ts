/** What a byte-level BPE tokenizer is made of: every token with its id, and the merges in order of rank. */
export interface Bpe {
  readonly vocab: Readonly<Record<string, number>>
  readonly merges: readonly string[]
}

/** Ids 0, 1 and 2, as in Llama-2. Padding is `<unk>`: bytes never need it, so masking it never masks an end. */
export const specialTokens = { unk_token: '<unk>', bos_token: '<s>', eos_token: '</s>', pad_token: '<unk>' } as const
const special = [...new Set(Object.values(specialTokens))]

/** GPT-2's rule for cutting text into words: merges stay inside a word, and a space belongs to the word after it. */
const word = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu

/**
 * Trains byte-level BPE: starts from the 256 bytes and keeps joining the most frequent neighbours.
 *
 * At most `vocabSize` tokens (below 65,536), fewer when no pair is left that occurs twice. All bytes are tokens, so
 * any text can be encoded. The same texts give the same tokenizer: of equally frequent pairs the older tokens win.
 */
export function trainTokenizer(texts: Iterable<string>, vocabSize = 1024): Bpe {
  const tokens = [...special, ...byteCharacters().toSorted()]
  const ids = new Map(tokens.map((token, id) => [token, id]))
  const words = [...countWords(texts)].map(([text, count]) => ({ ids: [...text].map(c => ids.get(c)!), count }))
  const merges: string[] = []
  while (tokens.length < vocabSize) {
    const pair = mostFrequentPair(words)
    if (pair === undefined) break
    const [left, right] = pair
    const joined = tokens[left]! + tokens[right]!
    // Two different pairs may spell the same token: the second merge leads to the id of the first.
    if (!ids.has(joined)) ids.set(joined, tokens.push(joined) - 1)
    merges.push(`${tokens[left]} ${tokens[right]}`)
    for (const entry of words) entry.ids = merge(entry.ids, pair, ids.get(joined)!)
  }
  return { vocab: Object.fromEntries(ids), merges }
}

/** `bpe` as the content of Hugging Face's `tokenizer.json`, which puts `<s>` before every text. */
export function tokenizerJson({ vocab, merges }: Bpe): object {
  const bos = specialTokens.bos_token
  const single = [{ SpecialToken: { id: bos, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }]
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  return {
    version: '1.0',
    added_tokens: special.map(content => ({ id: vocab[content], content, ...flags })),
    pre_tokenizer: byteLevel,
    post_processor: {
      type: 'TemplateProcessing',
      single,
      pair: [...single, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { [bos]: { id: bos, ids: [vocab[bos]], tokens: [bos] } },
    },
    decoder: byteLevel,
    model: { type: 'BPE', fuse_unk: false, byte_fallback: false, vocab, merges },
  }
}

/** The character that stands for each byte: the printable ones for themselves, the others from U+0100 on (GPT-2). */
function byteCharacters(): string[] {
  let next = 256
  const printable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++))
}

function countWords(texts: Iterable<string>): Map<string, number> {
  const characters = byteCharacters()
  const counts = new Map<string, number>()
  for (const text of texts) {
    for (const [match] of text.matchAll(word)) {
      const bytes = Array.from(Buffer.from(match), byte => characters[byte]).join('')
      counts.set(bytes, (counts.get(bytes) ?? 0) + 1)
    }
  }
  return counts
}

function mostFrequentPair(words: readonly { ids: readonly number[]; count: number }[]): [number, number] | undefined {
  const counts = new Map<number, number>()
  for (const { ids, count } of words) {
    for (let i = 1; i < ids.length; i++) {
      const pair = ids[i - 1]! * 65536 + ids[i]!
      counts.set(pair, (counts.get(pair) ?? 0) + count)
    }
  }
  let [best, most] = [Infinity, 2]
  for (const [pair, count] of counts) {
    if (count > most || (count === most && pair < best)) [best, most] = [pair, count]
  }
  return best === Infinity ? undefined : [Math.floor(best / 65536), best % 65536]
}

function merge(ids: readonly number[], [left, right]: readonly [number, number], joined: number): number[] {
  const merged: number[] = []
  for (const id of ids) {
    if (id === right && merged.at(-1) === left) merged[merged.length - 1] = joined
    else merged.push(id)
  }
  return merged
}
