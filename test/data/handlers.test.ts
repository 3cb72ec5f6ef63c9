import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer/tokenizer.ts'
import type { DataRecord } from '../../src/formats/record-batch.ts'
import { encodeRows, type GoldenCase, readLines, summarize, writeTokenizers } from './golden-handlers.ts'

let folder: string
const tokenizers = new Map<string, Tokenizer>()
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
  for (const [name, path] of await writeTokenizers(folder)) tokenizers.set(name, await loadTokenizer(path))
})
afterAll(() => rm(folder, { recursive: true }))

const tokenizerNamed = (name: string) => tokenizers.get(name) ?? expect.fail(`no tokenizer ${name}`)

const cases = readLines<GoldenCase>('expected.jsonl')
const handlers = [...new Set(cases.map(({ handler }) => handler))]

describe("datasets are those of ModelLink's preprocess_data.py, byte for byte, where it is to be matched exactly", () => {
  test.each(handlers)('%s', handler => {
    for (const golden of cases.filter(golden => golden.handler === handler)) {
      const options = { ...golden.options, compat: 'exact' } as const
      const rows = readLines<DataRecord>(golden.rows)
      const { keys, encodeRow } = encodeRows(
        { ...golden, options },
        { rows, tokenizer: tokenizerNamed(golden.tokenizer) },
      )
      const found = summarize(
        keys,
        rows.map((_, i) => encodeRow(i)),
      )
      const { documents, datasets, lengths = found.lengths } = golden
      const expected = { ...found, documents, datasets: { ...found.datasets, ...datasets }, lengths }
      expect.soft(found, JSON.stringify([golden.tokenizer, golden.rows, golden.options])).toEqual(expected)
    }
  })
})
