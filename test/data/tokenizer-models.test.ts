import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { isFlowError } from '../../src/errors.ts'
import { loadFrom } from './oracle.ts'
import { sentencePieceFile } from './sentencepiece-file.ts'

const golden = (name: string) => readFileSync(new URL(`./golden/sentencepiece/${name}`, import.meta.url))
const json = (name: string) => JSON.parse(golden(name).toString('utf8'))
const texts: string[] = json('texts.json')
const ids: Record<string, number[][]> = json('ids.json')
const classes: Record<string, { config: object; cases: [string, number[]][] }> = json('classes.json')

/** A class that adds nothing to what sentencepiece does. */
const bare = {
  tokenizer_class: 'BaichuanTokenizer',
  add_bos_token: false,
  ...{ bos_token: null, eos_token: null, unk_token: null },
}
const loadModel = (name: string) =>
  loadFrom({ 'tokenizer.model': golden(`${name}.model`), 'tokenizer_config.json': bare })

describe('a tokenizer.model gives the ids of sentencepiece', () => {
  test.each([
    ['BPE with bytes for what is unknown', 'bpe-bytes'],
    ['BPE without a prefix, with symbols of the user', 'bpe-symbols'],
    ['BPE behind replacement rules, unknown characters fused', 'bpe-rules'],
    ['Unigram behind replacement rules', 'unigram'],
    ['Unigram with bytes for what is unknown', 'unigram-bytes'],
  ])('%s', async (_, name) => {
    const tokenizer = await loadModel(name)
    texts.forEach((text, i) => {
      expect([...tokenizer.encode(text)], JSON.stringify(text)).toEqual(ids[name]?.[i])
    })
  })

  // Expected by sentencepiece 0.2.2: it takes sums beyond 100,000 off those that go on, 70,000 it leaves.
  test.each([
    ['with the rounding of 32-bit sums', { a: -70_000, b: -1e-4, bc: -0.5e-4, c: 2e-4 }, 'abc', [1, 3]],
    ['far into a text', { a: -70_000, b: -1e-4, bc: -0.5e-4, c: 2e-4 }, 'aabc', [1, 1, 2, 4]],
    ['at sums far above zero', { a: 150_000, b: -1e-4, bc: -0.5e-4, c: 2e-4 }, 'abc', [1, 2, 4]],
    ['with a longer piece across such a place', { a: -150_000, b: -0.25, ab: -150_001 }, 'ab', [1, 2]],
    ['with a better one across it', { a: -150_000, b: -0.25, ab: -149_999 }, 'ab', [3]],
  ])('Unigram %s', async (_, scores, text, expected) => {
    const pieces = Object.entries(scores).map(([text, score]) => ({ text, score }))
    const model = sentencePieceFile([{ text: '<unk>', type: 2 }, ...pieces], { type: 'unigram' })
    const tokenizer = await loadFrom({ 'tokenizer.model': model, 'tokenizer_config.json': bare })
    expect([...tokenizer.encode(text)]).toEqual(expected)
  })

  test('BPE with more pieces than a call has arguments', async () => {
    const pieces = Array.from({ length: 200_000 }, (_, i) => ({ text: `${i}.`, score: -i }))
    const files = {
      'tokenizer.model': sentencePieceFile([{ text: '<unk>', type: 2 }, { text: '1' }, ...pieces], { type: 'bpe' }),
      'tokenizer_config.json': bare,
    }
    expect([...(await loadFrom(files)).encode('1.')]).toEqual([3])
  })

  test('decoding gives the text back', async () => {
    const tokenizer = await loadModel('bpe-bytes')
    for (const text of ['The quick 狐狸 jumps', '  训练 \n\n 😀𠮷']) {
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text)
    }
  })
})

describe('a file of ranks gives the ids of tiktoken', () => {
  test.each([
    ['qwen', 'qwen.tiktoken', 'qwen1'],
    ['glm4', 'tokenizer.model', 'glm4'],
  ])('%s', async (name, file, className) => {
    const config = classes[className]?.config
    const tokenizer = await loadFrom({ [file]: golden('ranks.tiktoken'), 'tokenizer_config.json': config })
    texts.forEach((text, i) => {
      const found = [...tokenizer.encode(text, { addSpecialTokens: false })]
      if (!text.includes('<|')) expect(found, JSON.stringify(text)).toEqual(ids[name]?.[i])
      expect(tokenizer.decode(found)).toBe(name === 'qwen' ? text.normalize('NFC') : text)
    })
  })
})

const fileOf: Record<string, readonly [string, string]> = {
  chatglm3: ['tokenizer.model', 'bpe-bytes.model'],
  baichuan2: ['tokenizer.model', 'bpe-bytes.model'],
  yi: ['tokenizer.model', 'bpe-symbols.model'],
  glm4: ['tokenizer.model', 'ranks.tiktoken'],
  qwen1: ['qwen.tiktoken', 'ranks.tiktoken'],
}
const loadClass = (name: string, more: object = {}) => {
  const [file = '', source = ''] = fileOf[name] ?? []
  return loadFrom({ [file]: golden(source), 'tokenizer_config.json': classes[name]?.config, ...more })
}

describe('special tokens come as from the Python class of the model', () => {
  test.each(Object.keys(classes))('%s', async name => {
    const tokenizer = await loadClass(name)
    for (const [text, expected] of classes[name]?.cases ?? []) {
      expect([...tokenizer.encode(text)], JSON.stringify(text)).toEqual(expected)
    }
  })

  // LlamaTokenizerFast puts a space before each section between special tokens, or with "legacy": false the first only.
  test.each([
    [true, ['▁a', '</s>', '▁b']],
    [false, ['▁a', '</s>', 'b']],
  ])('LlamaTokenizer with a tokenizer.model alone, legacy %s', async (legacy, tokens) => {
    const tokenizer = await loadFrom({
      'tokenizer.model': golden('bpe-bytes.model'),
      'tokenizer_config.json': { tokenizer_class: 'LlamaTokenizer', legacy },
    })
    const expected = tokens.flatMap(token => {
      if (token === '</s>') return [2]
      return [...tokenizer.encode(token.replace('▁', ''), { addSpecialTokens: false })]
    })
    const withSpace = [...tokenizer.encode('a</s>b')]
    expect(withSpace[0]).toBe(1)
    if (legacy) expect(withSpace.slice(1)).toEqual(expected)
    else expect(tokenizer.decode(withSpace.slice(1))).toBe('a</s>b')
  })
})

describe('what is taken otherwise than the files say is told', () => {
  test('Qwen gets the eos and pad that training needs', async () => {
    const { adjustments, eosId, padId } = await loadClass('qwen1')
    expect({ eosId, padId }).toEqual({ eosId: 600, padId: 603 })
    expect(adjustments[0]).toMatch(/^eos_token taken as <\|endoftext\|>: .*tokenizer_config.json names none\.$/)
    expect(adjustments[1]).toMatch(/^pad_token taken as <\|extra_0\|>/)
  })

  test('ChatGLM3 gets the eos and pad of its own code', async () => {
    const { adjustments, eosId, padId } = await loadClass('chatglm3')
    expect({ eosId, padId }).toEqual({ eosId: 2, padId: 0 })
    expect(adjustments.map(line => line.split(/[ :]/)[0])).toEqual([
      'padding_side',
      'eos_token',
      'unk_token',
      'pad_token',
    ])
  })

  test('another file than the class reads', async () => {
    const byteLevel = readFileSync(new URL('./golden/tokenizers/byte-level/tokenizer.json', import.meta.url), 'utf8')
    const config = { tokenizer_class: 'QWenTokenizer' }
    const { adjustments } = await loadFrom({ 'tokenizer.json': byteLevel, 'tokenizer_config.json': config })
    expect(adjustments.at(-1)).toBe(
      'tokenizer.json read: qwen.tiktoken, which the class QWenTokenizer reads, is not there.',
    )
    const both = await loadClass('qwen1', { 'tokenizer.json': byteLevel })
    expect(both.encode('The quick')).toEqual((await loadClass('qwen1')).encode('The quick'))
    const { adjustments: none } = await loadFrom({ 'tokenizer.json': byteLevel })
    expect(none).toEqual([])
  })
})

describe('hostile files are refused', () => {
  test('a model that ends too early, wherever', async () => {
    const whole = golden('unigram.model')
    for (let end = 0; end < whole.length; end += 97) {
      const loading = loadFrom({ 'tokenizer.model': whole.subarray(0, end), 'tokenizer_config.json': bare })
      const error = await loading.then(
        () => undefined,
        error => error,
      )
      if (error) expect(isFlowError(error), `${end}: ${error}`).toBe(true)
    }
    const cut = loadFrom({ 'tokenizer.model': whole.subarray(0, 1000), 'tokenizer_config.json': bare })
    await expect(cut).rejects.toThrow(/bytes of a field|the rest of a number/)
  })

  test('bytes changed at random end in a named error or in a tokenizer', async () => {
    for (const name of ['bpe-rules.model', 'unigram.model']) {
      for (let seed = 1; seed < 120; seed++) {
        const bytes = Buffer.from(golden(name))
        bytes[(seed * 7919) % bytes.length] = (seed * 104729) & 0xff
        const outcome = await loadFrom({ 'tokenizer.model': bytes, 'tokenizer_config.json': bare }).then(
          tokenizer => tokenizer.encode('The quick ﬁ 训练').length,
          error => error,
        )
        expect(typeof outcome === 'number' || isFlowError(outcome), `${name} ${seed}: ${outcome}`).toBe(true)
      }
    }
  })

  const ranks = golden('ranks.tiktoken').toString('latin1')
  test.each([
    ['a line without a rank', ranks.replace(' 300\n', '\n'), /a token in base64 and its rank/],
    ['a rank that comes twice', ranks.replace(' 300\n', ' 301\n'), /tokens and ranks that differ/],
    ['a token that is no base64', ranks.replace(/\S+ 300\n/, '*** 300\n'), /a token in base64/],
    ['a rank beyond every table', ranks.replace(' 300\n', ' 99999999\n'), /a token in base64/],
    ['a byte without a token', ranks.replace('AA== 0\n', ''), /a token for each byte, found none for 0/],
  ])('%s', async (_, text, message) => {
    const loading = loadFrom({ 'qwen.tiktoken': text, 'tokenizer_config.json': classes.qwen1?.config })
    await expect(loading).rejects.toThrow(message)
    await expect(loading).rejects.toMatchObject({ code: 'bad-format' })
  })

  test('a class that is not known, by name', async () => {
    const config = { tokenizer_class: 'InternLM2Tokenizer' }
    const loading = loadFrom({ 'tokenizer.model': golden('bpe-bytes.model'), 'tokenizer_config.json': config })
    await expect(loading).rejects.toThrow(/InternLM2Tokenizer/)
    await expect(loading).rejects.toMatchObject({ code: 'unsupported' })
  })
})
