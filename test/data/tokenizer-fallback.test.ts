import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { preprocessCorpus } from '../../src/data/preprocess.ts'
import { fuzzTexts } from './fuzz-text.ts'
import { differences, loadFrom } from './oracle.ts'

// biome-ignore lint/suspicious/noExplicitAny: the cases below change the file in ways that no type allows.
type Json = any

const golden = readFileSync(new URL('./golden/tokenizers/byte-level/tokenizer.json', import.meta.url), 'utf8')
const variant = (change: (json: Json) => void): Json => {
  const json: Json = JSON.parse(golden)
  change(json)
  return json
}

const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
const wordPiece: Json = {
  version: '1.0',
  truncation: { direction: 'Right', max_length: 4, strategy: 'LongestFirst', stride: 0 },
  padding: null,
  added_tokens: ['[UNK]', '[CLS]', '[SEP]'].map((content, id) => ({ id, content, ...special })),
  normalizer: {
    type: 'BertNormalizer',
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: { type: 'BertProcessing', sep: ['[SEP]', 2], cls: ['[CLS]', 1] },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(
      ['[UNK]', '[CLS]', '[SEP]', 'the', 'quick', 'fox', '##es', '训', '练', 'a', '##b', '##c', '.', '!'].map(
        (token, id) => [token, id],
      ),
    ),
  },
}

const kinds: Record<string, Json> = {
  'the model WordPiece': wordPiece,
  'another normalizer': variant(json => {
    json.normalizer = { type: 'Lowercase' }
  }),
  'another pattern': variant(json => {
    json.pre_tokenizer = {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: '\\p{L}+' }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    }
  }),
}

describe('what is not known is encoded by the package tokenizers, whole texts at a time', () => {
  for (const [name, json] of Object.entries(kinds)) {
    test(name, async () => {
      const tokenizer = await loadFrom({ 'tokenizer.json': json })
      const words = [...Object.keys(json.model.vocab), ...json.added_tokens.map((token: Json) => token.content)]
      const texts = fuzzTexts(300, { seed: 8, words })
      expect(await differences(tokenizer, { json: { ...json, truncation: null }, texts })).toEqual([])
      expect(tokenizer.adjustments.at(-1)).toMatch(
        /^Encoded by the package tokenizers, many times slower: .* this version/,
      )
    })
  }

  test('special tokens of the configuration count', async () => {
    const config = { tokenizer_class: 'LlamaTokenizer', bos_token: '[CLS]', eos_token: '[END]', unk_token: '[UNK]' }
    const tokenizer = await loadFrom({ 'tokenizer.json': wordPiece, 'tokenizer_config.json': config })
    expect(tokenizer).toMatchObject({ bosId: 1, eosId: 14, vocabSize: 15 })
    expect([...tokenizer.encode('The foxes[END]')]).toEqual([1, 3, 5, 6, 14])
    expect([...tokenizer.encode('The foxes', { addSpecialTokens: false })]).toEqual([3, 5, 6])
    expect(tokenizer.decode([3, 5, 6])).toBe('the foxes')
  })

  test('threads that encode have one of their own', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
    try {
      await mkdir(join(folder, 'tok'))
      await writeFile(join(folder, 'tok', 'tokenizer.json'), JSON.stringify(wordPiece))
      const lines = Array.from({ length: 40 }, (_, i) => JSON.stringify({ text: 'The quick fox abc! '.repeat(i + 1) }))
      await writeFile(join(folder, 'corpus.jsonl'), lines.join('\n'))
      const { tokens } = await preprocessCorpus({
        ...{ handler: 'GeneralPretrainHandler', files: [join(folder, 'corpus.jsonl')], workers: 2 },
        ...{ tokenizerDir: join(folder, 'tok'), outputPrefix: join(folder, 'out') },
      })
      // Seven tokens each time, and two around each row.
      expect(tokens).toBe((40 * 41 * 7) / 2 + 40 * 2)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  test('a model that would end the process is refused', async () => {
    const cases: [(json: Json) => void, RegExp][] = [
      [json => (json.model.continuing_subword_prefix = '##'), /continuing_subword_prefix "##"/],
      [json => (json.model.dropout = 0.1), /dropout 0.1/],
      [json => (json.model.type = 'Unigram'), /a list of 1 to 1048576 pieces/],
      [json => (json.model.vocab.a = json.model.vocab.b), /no two tokens share/],
      [json => (json.normalizer = { type: 'None of these' }), /expected a tokenizer that the package tokenizers reads/],
      [json => (json.post_processor = { type: 'BertProcessing' }), /expected a tokenizer that the package/],
    ]
    for (const [change, message] of cases) {
      await expect(loadFrom({ 'tokenizer.json': variant(change) })).rejects.toThrow(message)
    }
  })
})
