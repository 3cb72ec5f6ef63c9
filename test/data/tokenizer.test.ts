import { readFileSync } from 'node:fs'
import { toUSVString } from 'node:util'
import llamaTokenizer from 'llama-tokenizer-js'
import { describe, expect, test } from 'vitest'
import { readSentencePieceModel } from '../../src/data/tokenizer/sentencepiece-model.ts'
import { fuzzTexts } from './fuzz-text.ts'
import { differences, loadFrom } from './oracle.ts'

interface TokenizerJson {
  model: { vocab: Record<string, number>; merges: [string, string][]; [key: string]: unknown }
  added_tokens: { id: number; content: string; [key: string]: unknown }[]
  [key: string]: unknown
}

const golden = (name: string) => new URL(`./golden/${name}`, import.meta.url)
const readJson = (name: string) => JSON.parse(readFileSync(golden(`${name}/tokenizer.json`), 'utf8')) as TokenizerJson
const byteLevel = () => readJson('tokenizers/byte-level')
const byteFallback = () => readJson('tokenizers/byte-fallback')

/** A copy of a tokenizer with some of its parts changed. */
function variant(base: TokenizerJson, change: (json: TokenizerJson) => void): TokenizerJson {
  change(base)
  return base
}

const splitBy = (regex: string) => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false },
    { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
  ],
})
const gpt4 = (digits: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`
const metaspace = (prepend_scheme: string, split: boolean) => (json: TokenizerJson) => {
  json.normalizer = null
  json.pre_tokenizer = { type: 'Metaspace', replacement: '▁', prepend_scheme, split }
}
const add = (json: TokenizerJson, content: string, flags: object = {}) => {
  const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
  const id =
    json.model.vocab[content] ?? Math.max(...Object.values(json.model.vocab), ...json.added_tokens.map(t => t.id)) + 1
  json.added_tokens.push({ id, content, ...plain, ...flags })
}
const without = (json: TokenizerJson, tokens: readonly string[]) => {
  const kept = Object.keys(json.model.vocab).filter(token => !tokens.includes(token))
  json.model.vocab = Object.fromEntries(kept.map((token, id) => [token, id]))
  json.model.merges = json.model.merges.filter(([a, b]) => [a, b, a + b].every(token => token in json.model.vocab))
  for (const token of json.added_tokens) token.id = json.model.vocab[token.content] as number
}
const byteTokens = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)

const variants: Record<string, () => TokenizerJson> = {
  'byte level with the pattern of GPT-2': byteLevel,
  'byte level with the pattern of Llama 3': () =>
    variant(byteLevel(), json => {
      json.pre_tokenizer = splitBy(gpt4('\\p{N}{1,3}'))
    }),
  'byte level with the pattern of Qwen, after NFC': () =>
    variant(byteLevel(), json => {
      json.pre_tokenizer = splitBy(gpt4('\\p{N}'))
      json.normalizer = { type: 'NFC' }
    }),
  'byte level with a space in front': () =>
    variant(byteLevel(), json => {
      json.pre_tokenizer = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true }
    }),
  'byte level without splitting': () =>
    variant(byteLevel(), json => {
      json.pre_tokenizer = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false }
    }),
  'byte level that takes whole tokens first': () =>
    variant(byteLevel(), json => {
      json.model.ignore_merges = true
      for (const word of ['Ġzebra', 'xyz', 'çļĦä¸Ģ', 'Ġ='])
        json.model.vocab[word] = Object.keys(json.model.vocab).length
      json.added_tokens = []
    }),
  'byte level with added tokens of all flags': () =>
    variant(byteLevel(), json => {
      json.normalizer = { type: 'NFKC' }
      add(json, '<left>', { lstrip: true })
      add(json, '<right>', { rstrip: true })
      add(json, '<both>', { lstrip: true, rstrip: true })
      add(json, 'word', { single_word: true })
      add(json, '<|im_start|>user')
      add(json, 'ﬁn', { normalized: true, special: false })
      add(json, ' spaced ', { rstrip: true })
      add(json, 'é', { single_word: true, normalized: true })
    }),
  'byte level between bos and eos': () =>
    variant(byteLevel(), json => {
      const token = (id: number, name: string) => ({ id: name, ids: [id], tokens: [name] })
      json.post_processor = {
        type: 'Sequence',
        processors: [
          { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: true },
          {
            type: 'TemplateProcessing',
            single: [
              { SpecialToken: { id: '<|im_start|>', type_id: 0 } },
              { Sequence: { id: 'A', type_id: 0 } },
              { SpecialToken: { id: '<|im_end|>', type_id: 0 } },
            ],
            pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
            special_tokens: { '<|im_start|>': token(1, '<|im_start|>'), '<|im_end|>': token(2, '<|im_end|>') },
          },
        ],
      }
    }),
  'byte level without a token for some bytes': () =>
    variant(byteLevel(), json => without(json, ['a', 'Ģ', '½', 'ł', 'ï'])),
  'byte level with an unknown token for some bytes': () =>
    variant(byteLevel(), json => {
      without(json, ['a', 'Ģ', '½', 'ł', 'ï'])
      json.model.unk_token = '<|endoftext|>'
    }),
  'byte fallback as in Llama 2': byteFallback,
  'byte fallback behind Metaspace on every section': () => variant(byteFallback(), metaspace('always', false)),
  'byte fallback behind Metaspace on the first section': () => variant(byteFallback(), metaspace('first', false)),
  'byte fallback behind Metaspace that splits': () => variant(byteFallback(), metaspace('always', true)),
  'byte fallback behind Metaspace that adds nothing': () => variant(byteFallback(), metaspace('never', true)),
  'byte fallback that merges bytes': () =>
    variant(byteFallback(), json => {
      for (const pair of [
        ['<0xE7>', '<0x9A>'],
        ['<0x84>', 't'],
        ['▁', '<0xE7>'],
      ] as const) {
        json.model.merges.push([...pair])
        json.model.vocab[pair.join('')] = Object.keys(json.model.vocab).length
      }
    }),
  'byte fallback that takes whole tokens first': () =>
    variant(byteFallback(), json => {
      json.model.ignore_merges = true
    }),
  'byte fallback without some bytes': () =>
    variant(byteFallback(), json => without(json, ['<0xE7>', '<0xF0>', '<0x0A>'])),
  'byte fallback without some bytes, unknowns apart': () =>
    variant(byteFallback(), json => {
      without(json, ['<0xE7>', '<0xF0>', '<0x0A>'])
      json.model.fuse_unk = false
    }),
  'characters with fused unknowns': () => variant(byteFallback(), json => without(json, byteTokens)),
  'characters with unknowns apart': () =>
    variant(byteFallback(), json => {
      without(json, byteTokens)
      json.model.fuse_unk = false
    }),
  'characters whose unknowns vanish': () =>
    variant(byteFallback(), json => {
      without(json, byteTokens)
      json.model.unk_token = null
    }),
  'byte fallback with added tokens that are normalized': () =>
    variant(byteFallback(), json => {
      for (const token of json.added_tokens) token.normalized = true
      add(json, 'the end', { normalized: true, special: false })
      add(json, '▁<x>', { normalized: true, lstrip: true })
    }),
  'byte level with a vocabulary of 43 bytes': () => readJson('tiny/tok'),
}

/** The pieces of a small SentencePiece model as a Unigram tokenizer.json has them. */
const unigram = (name: string, more: object): TokenizerJson => {
  const file = readFileSync(golden(`sentencepiece/${name}.model`))
  const { pieces, unkId, byteFallback, normalizer } = readSentencePieceModel(file, name)
  const charsmap = Buffer.from(normalizer.charsmap).toString('base64')
  const vocab = pieces.map(({ text, score }) => [text, score] as const)
  const model = { type: 'Unigram', unk_id: unkId, vocab, byte_fallback: byteFallback }
  const json = {
    ...{ version: '1.0', truncation: null, padding: null, added_tokens: [], post_processor: null, model },
    ...{ normalizer: { type: 'Precompiled', precompiled_charsmap: charsmap }, decoder: null, ...more },
  }
  return json as unknown as TokenizerJson
}
const behindMark = { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true }
const unigrams: Record<string, () => TokenizerJson> = {
  'Unigram as in XLM-R': () =>
    unigram('unigram', {
      pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'WhitespaceSplit' }, behindMark] },
    }),
  'Unigram as in T5': () => {
    const { normalizer } = unigram('unigram', {})
    const strip = { type: 'Strip', strip_left: false, strip_right: true }
    const normalizers = [normalizer, strip, { type: 'Replace', pattern: { Regex: ' {2,}' }, content: '▁' }]
    return unigram('unigram', { normalizer: { type: 'Sequence', normalizers }, pre_tokenizer: behindMark })
  },
  'Unigram with bytes for what is unknown': () =>
    unigram('unigram-bytes', { normalizer: null, pre_tokenizer: behindMark }),
  'Unigram on whole texts': () => unigram('unigram', { normalizer: null, pre_tokenizer: null }),
}

describe('ids are those of Hugging Face tokenizers', () => {
  test.each(Object.entries(unigrams))('%s', async (_, make) => {
    const json = make()
    const words = (json.model.vocab as unknown as [string, number][]).map(([text]) => text)
    const tokenizer = await loadFrom({ 'tokenizer.json': json })
    expect(tokenizer.adjustments).toEqual([])
    expect(await differences(tokenizer, { json, texts: fuzzTexts(800, { seed: 6, words }) })).toEqual([])
  })

  for (const [name, make] of Object.entries(variants)) {
    test(name, async () => {
      const json = make()
      const words = [...json.added_tokens.map(token => token.content), ...Object.keys(json.model.vocab)]
      const texts = fuzzTexts(800, { seed: 20, words })
      expect(await differences(await loadFrom({ 'tokenizer.json': json }), { json, texts })).toEqual([])
    })
  }

  test('every code point alone and between letters', async () => {
    const json = variant(byteLevel(), json => {
      json.pre_tokenizer = splitBy(gpt4('\\p{N}{1,3}'))
    })
    // The planes that have characters; the rest is unassigned or private.
    const blocks = Array.from({ length: 0x34000 / 64 }, (_, i) => 64 * i).filter(
      block => block < 0xd800 || block >= 0xe000,
    )
    const texts = [...blocks, 0xe0000, 0xe0100].map(block =>
      Array.from({ length: 64 }, (_, i) => String.fromCodePoint(block + i))
        .map(c => `a${c}1${c}.`)
        .join(''),
    )
    expect(await differences(await loadFrom({ 'tokenizer.json': json }), { json, texts })).toEqual([])
  })

  test.each([
    ['three hundred thousand times the same letter', 'a'.repeat(3e5)],
    [
      'a megabyte of base64',
      Buffer.from(fuzzTexts(3000, { seed: 9, words: ['x'] }).join(''))
        .toString('base64')
        .slice(0, 1e6),
    ],
    ['a hundred thousand times the same Chinese character', '中'.repeat(1e5)],
    ['a run of spaces longer than any buffer', `${' '.repeat(3e5)}x`],
  ])('%s', async (_, text) => {
    for (const json of [byteLevel(), byteFallback()]) {
      expect(text.length).toBeGreaterThan(65_536)
      expect(await differences(await loadFrom({ 'tokenizer.json': json }), { json, texts: [text] })).toEqual([])
    }
  })
})

test('a lone surrogate is encoded as the replacement character', async () => {
  const tokenizer = await loadFrom({ 'tokenizer.json': byteLevel() })
  expect(tokenizer.encode('a\ud83dz')).toEqual(tokenizer.encode('a\ufffdz'))
})

test('ids stay as they are when the same tokenizer encodes something else', async () => {
  const tokenizer = await loadFrom({ 'tokenizer.json': byteLevel() })
  const first = tokenizer.encode('The quick brown fox')
  const copy = first.slice()
  tokenizer.encode('over the lazy dog')
  expect(first).toEqual(copy)
})

test('decoding gives the text back', async () => {
  for (const json of [byteLevel(), byteFallback()]) {
    const tokenizer = await loadFrom({ 'tokenizer.json': json })
    for (const text of ['The quick 狐狸 jumps', '训练 \n\n 😀𠮷', "We'll see"]) {
      expect(tokenizer.decode(tokenizer.encode(text, { addSpecialTokens: false }))).toBe(text)
    }
  }
})

test('a Llama 2 tokenizer gives the ids that llama-tokenizer-js was published with', async () => {
  const vocab = llamaTokenizer.vocabById
  const json = variant(byteFallback(), json => {
    json.model.vocab = Object.fromEntries(vocab.map((token, id) => [token, id]))
    json.model.merges = [...llamaTokenizer.merges.entries()]
      .sort(([, a], [, b]) => a - b)
      .map(([pair]) => pair.split(' ') as [string, string])
  })
  const tokenizer = await loadFrom({ 'tokenizer.json': json })
  // Source: llama-tokenizer-js, test cases made with the reference Python implementation.
  const cases: Record<string, number[]> = {
    grabbed: [1, 2646, 1327, 287],
    ' grabbed': [1, 29871, 2646, 1327, 287],
    '           grabbed': [1, 9651, 2646, 1327, 287],
    '\n': [1, 29871, 13],
    ' \n': [1, 259, 13],
    '\ttabs\t\t\t\tout here': [1, 29871, 12, 21175, 12, 12, 12, 12, 449, 1244],
    'ax\n####\nboo': [1, 4853, 13, 4136, 13, 833, 29877],
    镇: [1, 29871, 30411],
    '🦙': [1, 29871, 243, 162, 169, 156],
    '🦙Ꙋ': [1, 29871, 243, 162, 169, 156, 237, 156, 141],
    'Ꙋ🦙': [1, 29871, 237, 156, 141, 243, 162, 169, 156],
  }
  for (const [text, ids] of Object.entries(cases)) expect([...tokenizer.encode(text)], text).toEqual(ids)
  // That library knows no tokens in the text, so none are put there.
  const words = vocab.filter(token => !token.startsWith('<')).map(token => token.replaceAll('▁', ' '))
  const texts = fuzzTexts(400, { seed: 4, words }).filter(
    text => !/<\/?s>|<unk>|▁/.test(text) && toUSVString(text) === text,
  )
  for (const text of texts) expect([...tokenizer.encode(text)], text).toEqual(llamaTokenizer.encode(text))
})
