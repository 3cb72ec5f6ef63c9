import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { loadTokenizer } from '../../src/data/tokenizer/tokenizer.ts'
import { fuzzTexts } from './fuzz-text.ts'
import { differences } from './oracle.ts'

const tokenizers = fileURLToPath(new URL('../../../shared/data/tokenizers', import.meta.url))

test.skipIf(!existsSync(tokenizers)).each([
  ['llama2', 32000, { bosId: 1, eosId: 2 }],
  ['llama3', 128256, { bosId: 128000, eosId: 128001 }],
  ['qwen', 151665, { eosId: 151645, padId: 151643 }],
] as const)('%s gives the ids of Hugging Face tokenizers', async (name, vocabSize, special) => {
  const json = JSON.parse(readFileSync(join(tokenizers, name, 'tokenizer.json'), 'utf8'))
  const tokenizer = await loadTokenizer(join(tokenizers, name))
  expect(tokenizer).toMatchObject({ vocabSize, ...special })
  const words = [
    ...json.added_tokens.map((token: { content: string }) => token.content),
    ...Object.keys(json.model.vocab),
  ]
  const texts = fuzzTexts(5000, { seed: 3, words })
  expect(await differences(tokenizer, { json, texts })).toEqual([])
})
