import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { dropReasonOf, type Encoded, type HandlerOptions } from '../../src/data/handlers/handler.ts'
import { handlerNamed } from '../../src/data/handlers/registry.ts'
import { createRow } from '../../src/data/row.ts'
import type { Tokenizer } from '../../src/data/tokenizer/tokenizer.ts'
import type { DataRecord } from '../../src/formats/record-batch.ts'

const golden = fileURLToPath(new URL('./golden/', import.meta.url))

/** What ModelLink's preprocess_data.py made of a file of rows. */
export interface GoldenCase {
  readonly tokenizer: string
  readonly handler: string
  readonly rows: string
  readonly appendEod?: boolean
  readonly options: HandlerOptions
  /** Sequences up to the end of each document; a number where each document holds one. */
  readonly documents: number | readonly number[]
  /** First 16 digits of the sha256 of each .bin file. */
  readonly datasets: Readonly<Record<string, string>>
  readonly lengths?: readonly number[]
}

export function readLines<T>(name: string): T[] {
  const lines = readFileSync(join(golden, 'handlers', name), 'utf8')
    .trimEnd()
    .split('\n')
  return lines.map(line => JSON.parse(line) as T)
}

/** The tests' own tokenizers, in folders below `folder`. */
export async function writeTokenizers(folder: string): Promise<ReadonlyMap<string, string>> {
  const specs = JSON.parse(readFileSync(join(golden, 'handlers', 'tokenizers.json'), 'utf8')) as Record<
    string,
    { base: string; added: string[]; config: object; parts?: object }
  >
  const folders = new Map<string, string>()
  for (const [name, { base, added, config, parts }] of Object.entries(specs)) {
    const json = JSON.parse(readFileSync(join(golden, 'tokenizers', base, 'tokenizer.json'), 'utf8'))
    const size = Object.keys(json.model.vocab).length
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
    for (const [i, content] of added.entries()) json.added_tokens.push({ id: size + i, content, ...flags })
    const path = join(folder, name)
    await mkdir(path)
    await writeFile(join(path, 'tokenizer.json'), JSON.stringify({ ...json, ...parts }))
    await writeFile(join(path, 'tokenizer_config.json'), JSON.stringify(config))
    folders.set(name, path)
  }
  return folders
}

/** What our handler makes of rows: for each row its sequences by key, or why there are none. */
export function encodeRows(
  { handler, options, appendEod }: Pick<GoldenCase, 'handler' | 'options' | 'appendEod'>,
  { rows, tokenizer }: { readonly rows: readonly DataRecord[]; readonly tokenizer: Tokenizer },
) {
  const made = handlerNamed(handler, options)
  const batch = { file: 'rows.jsonl', records: rows, bytesRead: 0, locate: (i: number) => ({ place: `line ${i + 1}` }) }
  const { eosId } = made.tokenizerFacts?.(tokenizer) ?? tokenizer
  const context = { tokenizer, jsonKeys: ['text'], ...(appendEod ? { eod: eosId } : {}) }
  const encodeRow = (i: number): Encoded | string => {
    const encoded = made.encode(createRow(batch, i), context)
    return dropReasonOf(encoded) ?? encoded
  }
  return { keys: made.keys(['text']), encodeRow }
}

/** The same in the form of the golden file. */
export function summarize(keys: readonly string[], rows: readonly (Encoded | string)[]) {
  const kept = rows.filter(row => typeof row !== 'string')
  const files = keys.map((_, key) => kept.flatMap(row => row[key] ?? []))
  let end = 0
  const ends = kept.map(row => (end += row[0]?.length ?? 0))
  const digest = (sequences: readonly Int32Array[]) => {
    const hash = createHash('sha256')
    for (const sequence of sequences) hash.update(sequence)
    return hash.digest('hex').slice(0, 16)
  }
  return {
    documents: ends.every((at, i) => at === i + 1) ? ends.length : ends,
    datasets: Object.fromEntries(keys.map((key, i) => [key, digest(files[i] ?? [])])),
    lengths: (files[0] ?? []).map(({ length }) => length),
    /** Of all files, one after another. */
    sha256: digest(files.flat()),
  }
}
