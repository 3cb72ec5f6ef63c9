import { readFileSync } from 'node:fs'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadTokenizer } from '../../src/data/tokenizer/tokenizer.ts'
import { fuzzTexts } from './fuzz-text.ts'
import { differences, loadFrom } from './oracle.ts'

const text = readFileSync(new URL('./golden/tokenizers/byte-level/tokenizer.json', import.meta.url), 'utf8')
const fallbackText = readFileSync(new URL('./golden/tokenizers/byte-fallback/tokenizer.json', import.meta.url), 'utf8')

// biome-ignore lint/suspicious/noExplicitAny: the cases below break the file in ways that no type allows.
type Broken = any

function broken(change: (json: Broken) => void): Broken {
  const json: Broken = JSON.parse(text)
  change(json)
  return json
}

describe('a tokenizer.json that cannot be right is refused', () => {
  const cases: readonly (readonly [string, (json: Broken) => void, RegExp])[] = [
    ['no model', json => delete json.model, /expected a model, found none/],
    ['no vocabulary', json => delete json.model.vocab, /model\.vocab with 1 to 1048576 tokens, found 0/],
    ['a list as vocabulary', json => (json.model.vocab = []), /model\.vocab with/],
    ['an id that is text', json => (json.model.vocab.a = '7'), /an id for token "a", found "7"/],
    ['an id that is negative', json => (json.model.vocab.a = -1), /an id for token "a", found -1/],
    ['an id that is a fraction', json => (json.model.vocab.a = 1.5), /an id for token "a", found 1.5/],
    ['an id beyond every table', json => (json.model.vocab.a = 2 ** 40), /an id for token "a"/],
    [
      'two tokens with one id',
      json => (json.model.vocab.a = json.model.vocab.b),
      /no two tokens share, found \d+ for "a" and "b"/,
    ],
    [
      'merges that are no list',
      json => (json.model.merges = {}),
      /model\.merges, a list of at most 4194304, found object/,
    ],
    ['ten million merges', json => (json.model.merges = new Array(1e7).fill('')), /at most 4194304, found 10000000/],
    ['a merge of one token', json => (json.model.merges[3] = 'ab'), /two tokens in merge 3/],
    ['a merge of numbers', json => (json.model.merges[3] = [1, 2]), /two tokens in merge 3/],
    ['a merge of a missing token', json => (json.model.merges[3] = 'zzz a'), /merge 3, found "zzz", which is none/],
    ['a merge into a missing token', json => (json.model.merges[3] = ['!', '!']), /merge 3, found "!!", which is none/],
    ['added tokens that are no list', json => (json.added_tokens = 7), /added_tokens, a list/],
    ['an added token without content', json => (json.added_tokens[1] = { id: 1 }), /a token in added_tokens\[1\]/],
    ['an added token with another id', json => (json.added_tokens[1].id = 99), /id 1 for the added token .*, found 99/],
    [
      'Unigram without pieces',
      json => (json.model = { type: 'Unigram', vocab: {}, unk_id: 0 }),
      /list of 1 to 1048576/,
    ],
    [
      'a Unigram piece without a score',
      json => (json.model = { type: 'Unigram', vocab: [['<unk>', 0], ['a']], unk_id: 0 }),
      /a piece and its score in model\.vocab\[1\], found \["a"\]/,
    ],
    [
      'a Unigram piece that comes twice',
      json =>
        (json.model = {
          type: 'Unigram',
          vocab: [
            ['a', 0],
            ['a', -1],
          ],
          unk_id: 0,
        }),
      /pieces that differ, found a as 0 and 1/,
    ],
    [
      'an unknown Unigram piece beyond the others',
      json => (json.model = { type: 'Unigram', vocab: [['a', 0]], unk_id: 1 }),
      /model\.unk_id below 1, found 1/,
    ],
    [
      'replacement rules that end too early',
      json => (json.normalizer = { type: 'Precompiled', precompiled_charsmap: '/////w==' }),
      /a trie of whole numbers/,
    ],
    [
      'a template with an unknown token',
      json =>
        (json.post_processor = {
          type: 'TemplateProcessing',
          single: [{ SpecialToken: { id: 'x' } }, { Sequence: { id: 'A' } }],
        }),
      /ids of x in post_processor\.special_tokens/,
    ],
    [
      'a template without a sequence',
      json => (json.post_processor = { type: 'TemplateProcessing', single: [] }),
      /one sequence A/,
    ],
  ]
  test.each(cases)('%s', async (_, change, message) => {
    const loading = loadFrom({ 'tokenizer.json': broken(change) })
    await expect(loading).rejects.toThrow(message)
    await expect(loading).rejects.toMatchObject({ code: 'bad-format' })
  })

  test.each([
    ['a comma behind the last token', (json: string) => json.replace(/(\d)\s*\}/, '$1,}')],
    ['an id that begins with 0', (json: string) => json.replace(/"b":\s*/, '$&0')],
    ['a line end within a token', (json: string) => json.replace(/"b":/, '"b\n":')],
    ['an escape that is none', (json: string) => json.replace(/"b":/, '"\\x62":')],
    ['half of the file', (json: string) => json.slice(0, json.length / 2)],
    ['two files in one', (json: string) => `${json}${json}`],
  ])('%s', async (_, change) => {
    const json = change(JSON.stringify(JSON.parse(text)))
    expect(() => JSON.parse(json)).toThrow()
    await expect(loadFrom({ 'tokenizer.json': json })).rejects.toThrow(/expected JSON/)
  })

  test('no JSON at all', async () => {
    await expect(loadFrom({ 'tokenizer.json': '{' })).rejects.toMatchObject({ code: 'bad-format' })
    await expect(loadFrom({ 'tokenizer.json': '[]' })).rejects.toMatchObject({ code: 'bad-format' })
    await expect(loadTokenizer(await mkdtemp(join(tmpdir(), 'ascendflow-')))).rejects.toThrow(/found no such file/)
  })
})

test('a tokenizer.json that is longer than any can be is refused before it is read', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
  await writeFile(join(folder, 'tokenizer.json'), '{')
  await truncate(join(folder, 'tokenizer.json'), 2 ** 28 + 1)
  await expect(loadTokenizer(folder)).rejects.toThrow(/at most 268435456 bytes, found 268435457/)
  await rm(folder, { recursive: true })
})

describe('a tokenizer.json gives the same ids however its JSON is written', () => {
  const json = JSON.parse(fallbackText)
  const { vocab, merges, ...model } = json.model
  const escaped = (text: string) => text.replace(/[^\x20-\x21\x23-\x5b]/g, unit => `\\u${hex(unit)}`)
  const hex = (unit: string) => unit.charCodeAt(0).toString(16).padStart(4, '0')
  const astral = { ...json, model: { ...json.model, vocab: { ...vocab, '\u{1f600}\u00e9': 100_000 } } }
  test.each<readonly [string, string | object]>([
    ['in lines', JSON.stringify(json, null, 2)],
    [
      'with escapes',
      JSON.stringify(json).replace(/"([^"\\]*\P{ASCII}[^"\\]*)"/gu, (_, token) => `"${escaped(token)}"`),
    ],
    [
      'with merges of one string each',
      { ...json, model: { ...json.model, merges: merges.map((merge: string[]) => merge.join(' ')) } },
    ],
    ['with merges first', { ...json, model: { merges, ...model, vocab } }],
    ['with a byte order mark', `\ufeff${fallbackText}`],
    ['with a key that comes twice', JSON.stringify(json).replace('"vocab":', '"vocab":{"a":0},"vocab":')],
    [
      'with a model before it that does not count',
      `{"model":${JSON.stringify({ ...json.model, merges: [] })},${JSON.stringify(json).slice(1)}`,
    ],
    ['with a token beyond the basic plane', astral],
  ])('%s', async (_, content) => {
    const read = typeof content === 'string' ? JSON.parse(content.replace(/^\ufeff/, '')) : content
    const texts = [...fuzzTexts(200, { seed: 11, words: Object.keys(vocab) }), '\u{1f600}\u00e9']
    expect(await differences(await loadFrom({ 'tokenizer.json': content }), { json: read, texts })).toEqual([])
  })
})

test('a tokenizer.json with a byte or two spoilt is what JSON.parse makes of it, or refused', async () => {
  const json = JSON.parse(fallbackText)
  const few = new Map(Object.entries<number>(json.model.vocab).slice(0, 400))
  const isKnown = ([left = '', right = '']: string[]) => few.has(left) && few.has(right) && few.has(left + right)
  const model = { ...json.model, vocab: Object.fromEntries(few), merges: json.model.merges.filter(isKnown) }
  const whole = Buffer.from(JSON.stringify({ ...json, added_tokens: [], model }))
  const texts = fuzzTexts(20, { seed: 3, words: [...few.keys()] })
  const tried = async (content: unknown) =>
    loadFrom({ 'tokenizer.json': content }).then(
      tokenizer => texts.map(text => [...tokenizer.encode(text)]),
      () => 'refused',
    )
  let state = 9
  const below = (limit: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
  let taken = 0
  for (let i = 0; i < 150; i++) {
    const bytes = Buffer.from(whole)
    for (let spoilt = 1 + below(2); spoilt > 0; spoilt--)
      bytes[below(bytes.length)] = below(3) === 0 ? below(256) : '{}[]",:\\u0e-. 1'.charCodeAt(below(15))
    const found = await tried(bytes)
    if (found === 'refused') continue
    const { model, ...others } = JSON.parse(bytes.toString())
    const { merges, vocab, ...rest } = model
    // With its merges first a file is read by JSON.parse.
    expect(found).toEqual(await tried({ ...others, model: { merges, ...rest, vocab } }))
    taken++
  }
  expect(taken).toBeGreaterThan(20)
})

describe('the files beside tokenizer.json', () => {
  const json = JSON.parse(text)
  const tokens = (json.added_tokens as { content: string }[]).length
  const size = Object.keys(json.model.vocab).length

  test('without them there are no special tokens', async () => {
    const tokenizer = await loadFrom({ 'tokenizer.json': json })
    expect(tokenizer.vocabSize).toBe(size)
    expect([tokenizer.bosId, tokenizer.eosId, tokenizer.padId]).toEqual([undefined, undefined, undefined])
    expect(tokens).toBe(3)
  })

  // The expected ids follow from `AutoTokenizer.from_pretrained(folder)` of transformers 4.57.6 on the same files.
  const cases: readonly (readonly [
    string,
    Record<string, unknown>,
    { bosId?: number; eosId?: number; padId?: number; vocabSize: number },
  ])[] = [
    [
      'tokenizer_config.json names them as text or as records',
      { 'tokenizer_config.json': { eos_token: '<|im_end|>', bos_token: { content: '<|im_start|>' }, pad_token: null } },
      { bosId: 1, eosId: 2, vocabSize: size },
    ],
    [
      'special_tokens_map.json goes before tokenizer_config.json',
      {
        'tokenizer_config.json': { eos_token: '<|im_end|>' },
        'special_tokens_map.json': { eos_token: '<|endoftext|>' },
      },
      { eosId: 0, vocabSize: size },
    ],
    [
      'but not where tokenizer_config.json lists the added tokens',
      {
        'tokenizer_config.json': {
          eos_token: '<|im_end|>',
          added_tokens_decoder: { 2: { content: '<|im_end|>', special: true } },
        },
        'special_tokens_map.json': { eos_token: '<|endoftext|>' },
      },
      { eosId: 2, vocabSize: size },
    ],
    [
      'a token that is new is added at the end',
      { 'tokenizer_config.json': { eos_token: '<|done|>', pad_token: '<|pad|>' } },
      { eosId: size, padId: size + 1, vocabSize: size + 2 },
    ],
    [
      'a class has tokens of its own',
      { 'tokenizer_config.json': { tokenizer_class: 'Qwen2Tokenizer' } },
      { eosId: 0, padId: 0, vocabSize: size },
    ],
    [
      'a class is found by the model type',
      { 'config.json': { model_type: 'qwen2' } },
      { eosId: 0, padId: 0, vocabSize: size },
    ],
  ]
  test.each(cases)('%s', async (_, files, expected) => {
    const { bosId, eosId, padId, vocabSize } = await loadFrom({ 'tokenizer.json': json, ...files })
    expect({ bosId, eosId, padId, vocabSize }).toEqual({
      bosId: undefined,
      eosId: undefined,
      padId: undefined,
      ...expected,
    })
  })

  test('a special token is found in the text even when only the configuration says that it is one', async () => {
    const config = { eos_token: 'ing' }
    const tokenizer = await loadFrom({ 'tokenizer.json': json, 'tokenizer_config.json': config })
    expect([...tokenizer.encode('jumping')].at(-1)).toBe(tokenizer.eosId)
  })

  test('split_special_tokens leaves special tokens to the merges', async () => {
    const split = await loadFrom({ 'tokenizer.json': json, 'tokenizer_config.json': { split_special_tokens: true } })
    expect(split.encode('a<|im_end|>')).not.toContain(2)
    expect((await loadFrom({ 'tokenizer.json': json })).encode('a<|im_end|>')).toContain(2)
  })

  test('flags of added_tokens_decoder replace those of tokenizer.json', async () => {
    const decoder = {
      2: { content: '<|im_end|>', lstrip: true, rstrip: false, normalized: false, single_word: false, special: true },
    }
    const tokenizer = await loadFrom({
      'tokenizer.json': json,
      'tokenizer_config.json': { added_tokens_decoder: decoder },
    })
    const a = json.model.vocab.a as number
    expect([...tokenizer.encode('a   <|im_end|>')]).toEqual([a, 2])
  })

  // LlamaTokenizerFast makes its template of add_bos_token (default true) and add_eos_token (default false).
  test.each([
    [{}, [1], []],
    [{ add_bos_token: false }, [], []],
    [{ add_bos_token: true, add_eos_token: true }, [1], [2]],
    [{ add_bos_token: false, add_eos_token: true }, [], [2]],
  ])('LlamaTokenizer with %j', async (flags, before, after) => {
    for (const tokenizer_class of ['LlamaTokenizer', 'LlamaTokenizerFast']) {
      const files = { 'tokenizer.json': fallbackText, 'tokenizer_config.json': { tokenizer_class, ...flags } }
      const tokenizer = await loadFrom(files)
      const ids = [...tokenizer.encode('the', { addSpecialTokens: false })]
      expect([...tokenizer.encode('the')]).toEqual([...before, ...ids, ...after])
    }
  })

  test('a configuration that is no JSON is refused', async () => {
    const loading = loadFrom({ 'tokenizer.json': json, 'tokenizer_config.json': 'eos' })
    await expect(loading).rejects.toMatchObject({ code: 'bad-format' })
  })
})
