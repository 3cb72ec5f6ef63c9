import { readFileSync } from 'node:fs'
import { describe, expect, test, vi } from 'vitest'
import { loadFrom } from './oracle.ts'

// An installation without the package tokenizers.
vi.mock('node:module', async original => ({
  ...(await original<typeof import('node:module')>()),
  createRequire: () => ({
    resolve(name: string) {
      throw new Error(`Cannot find module '${name}'`)
    },
  }),
}))

const text = readFileSync(new URL('./golden/tokenizers/byte-level/tokenizer.json', import.meta.url), 'utf8')

// biome-ignore lint/suspicious/noExplicitAny: the cases below change the file in ways that no type allows.
type Broken = any

function broken(change: (json: Broken) => void): Broken {
  const json: Broken = JSON.parse(text)
  change(json)
  return json
}

describe('a tokenizer that asks for something unknown is refused by name', () => {
  const cases: readonly (readonly [string, (json: Broken) => void, RegExp])[] = [
    ['another model', json => (json.model.type = 'WordPiece'), /a model of type WordPiece/],
    ['dropout', json => (json.model.dropout = 0.1), /dropout 0.1/],
    [
      'a prefix of later subwords',
      json => (json.model.continuing_subword_prefix = '##'),
      /continuing_subword_prefix "##"/,
    ],
    ['another normalizer', json => (json.normalizer = { type: 'Lowercase' }), /normalizes with \{"type":"Lowercase"\}/],
    [
      'another pattern',
      json =>
        (json.pre_tokenizer = {
          type: 'Sequence',
          pretokenizers: [
            { type: 'Split', pattern: { Regex: '\\p{L}+' }, behavior: 'Isolated', invert: false },
            { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
          ],
        }),
      /the pattern \\p\{L\}\+, which/,
    ],
    ['another pre-tokenizer', json => (json.pre_tokenizer = { type: 'BertPreTokenizer' }), /BertPreTokenizer/],
    ['another post-processor', json => (json.post_processor = { type: 'BertProcessing' }), /BertProcessing/],
  ]
  test.each(cases)('%s', async (_, change, message) => {
    const loading = loadFrom({ 'tokenizer.json': broken(change) })
    await expect(loading).rejects.toThrow(message)
    await expect(loading).rejects.toThrow(/npm install tokenizers/)
    await expect(loading).rejects.toMatchObject({ code: 'unsupported' })
  })
})
