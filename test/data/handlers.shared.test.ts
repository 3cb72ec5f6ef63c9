import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { loadTokenizer } from '../../src/data/tokenizer/tokenizer.ts'
import type { DataRecord } from '../../src/formats/record-batch.ts'
import { encodeRows, type GoldenCase, readLines, summarize } from './golden-handlers.ts'

const folder = join(fileURLToPath(new URL('../../../shared/', import.meta.url)), 'data', 'tokenizers')

const cases = readLines<Omit<GoldenCase, 'datasets'> & { readonly sha256: string }>('expected-shared.jsonl')
const names = [...new Set(cases.map(({ tokenizer }) => tokenizer))]

describe.skipIf(!existsSync(folder))("datasets are those of ModelLink with published models' tokenizers", () => {
  test.each(names)('%s', async name => {
    const tokenizer = await loadTokenizer(join(folder, name))
    for (const golden of cases.filter(golden => golden.tokenizer === name)) {
      const options = { ...golden.options, compat: 'exact' } as const
      const rows = readLines<DataRecord>(golden.rows)
      const { keys, encodeRow } = encodeRows({ ...golden, options }, { rows, tokenizer })
      const { documents, sha256 } = summarize(
        keys,
        rows.map((_, i) => encodeRow(i)),
      )
      const expected = { documents: golden.documents, sha256: golden.sha256 }
      expect
        .soft({ documents, sha256 }, JSON.stringify([golden.handler, golden.rows, golden.options]))
        .toEqual(expected)
    }
  })
})
