import { mkdir, mkdtemp, open, readdir, readFile, rm, symlink, truncate, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { findInputs } from '../../src/data/find-inputs.ts'
import { type PreprocessOptions, preprocessCorpus } from '../../src/data/preprocess.ts'
import { loadTokenizer } from '../../src/data/tokenizer/tokenizer.ts'

const tokenizerDir = fileURLToPath(new URL('./golden/tiny/tok', import.meta.url))
const { encode } = await loadTokenizer(tokenizerDir)
const goldenZst = fileURLToPath(new URL('../formats/golden/records/frames.jsonl.zst', import.meta.url))

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function write(name: string, content: string | Buffer): Promise<string> {
  await writeFile(join(folder, name), content)
  return join(folder, name)
}

const run = (files: readonly string[], options: Partial<PreprocessOptions> = {}) =>
  preprocessCorpus({
    ...{ files, handler: 'GeneralPretrainHandler', tokenizerDir },
    ...{ outputPrefix: join(folder, 'out', 'd'), ...options },
  })

async function expectNothingWritten(): Promise<void> {
  expect(await readdir(join(folder, 'out')).catch(() => [])).toEqual([])
}

const parquet = (text: readonly unknown[]) =>
  Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'text', data: [...text], type: 'STRING' }] }))

describe('refused, with nothing written, is', () => {
  const cut = (bytes: Buffer) => bytes.subarray(0, bytes.length - 12)
  const lines = '{"text":"fox"}\n'
  const cases: readonly (readonly [string, string, () => Buffer | string | Promise<Buffer>, RegExp])[] = [
    ['a Parquet file that is cut off', 'a.parquet', () => cut(parquet(['fox'])), /a Parquet footer/],
    ['a Parquet file of no rows', 'a.parquet', () => parquet([]), /No row of .* was kept: of 0 rows/],
    ['an empty file', 'a.jsonl', () => '', /of 0 rows/],
    [
      'a CSV file with semicolons',
      'a.csv',
      () => 'id;text\n1;fox\n',
      /no such column in line 2; its columns are id;text/,
    ],
    ['a CSV file with tabs', 'a.csv', () => 'id\ttext\n1\tfox\n', /its columns are id\ttext/],
    ['JSON with a comma too many', 'a.json', () => '[{"text":"fox"},]', /at line 1, column 1/],
    ['JSON of NULs', 'a.jsonl', () => '\0\0\0', /byte 0x00/],
    [
      'a gzip file that is cut off',
      'a.jsonl.gz',
      () => cut(gzipSync(lines.repeat(99))),
      /a gzip file, found unexpected end/,
    ],
    ['a zstd file that is cut off', 'a.jsonl.zst', async () => cut(await readFile(goldenZst)), /a zstd file, found/],
    ['text under the name of a gzip file', 'a.jsonl.gz', () => lines, /a gzip file, found incorrect header/],
    ['text under the name of a Parquet file', 'a.parquet', () => lines.repeat(9), /a Parquet footer/],
    ['text under the name of an Arrow file', 'a.arrow', () => lines.repeat(9), /an Arrow/],
    ['a column of lists', 'a.jsonl', () => '{"text":["fox"]}\n', /found a list in line 1/],
    ['a column of numbers in Parquet', 'a.parquet', () => numbers(), /found a number in row group 0, row 0/],
    [
      'text in Parquet that is not UTF-8',
      'a.parquet',
      () => parquetBytes(),
      /bytes that are not UTF-8 in row group 0, row 1/,
    ],
  ]
  const numbers = () => Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'text', data: [1, 2], type: 'INT32' }] }))
  const parquetBytes = () => {
    const data = [Buffer.from('fox'), Buffer.from([0xff, 0x66])]
    return Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'text', data, type: 'BYTE_ARRAY' }] }))
  }

  test.each(cases)('%s', async (_, name, content, message) => {
    await expect(run([await write(name, await content())])).rejects.toThrow(message)
    await expectNothingWritten()
  })

  test('a folder under the name of a file', async () => {
    await mkdir(join(folder, 'a.jsonl'))
    await expect(run([join(folder, 'a.jsonl')])).rejects.toThrow(/a\.jsonl: there is no such file/)
    await write('b.jsonl', '{"text":"fox"}')
    expect((await findInputs(folder)).files).toEqual([join(folder, 'b.jsonl')])
    await expect(findInputs(join(folder, 'a.jsonl'))).rejects.toThrow(/leads to no files/)
  })

  test('a link to itself', async () => {
    await symlink('loop.jsonl', join(folder, 'loop.jsonl'))
    await expect(findInputs(join(folder, 'loop.jsonl'))).rejects.toMatchObject({ code: 'invalid-input' })
  })

  test.skipIf(process.getuid?.() === 0)('a file that may not be read', async () => {
    const file = await write('a.jsonl', '{"text":"fox"}')
    const handle = await open(file)
    await handle.chmod(0)
    await handle.close()
    await expect(run([file])).rejects.toMatchObject({ code: 'EACCES' })
  })
})

test('a gzip bomb is read as any text: a line of it is refused, short lines are rows', async () => {
  const long = await write('a.txt.gz', gzipSync(Buffer.alloc(200 << 20, 'x')))
  await expect(run([long])).rejects.toThrow(/rows of at most 134217728 bytes/)
  const short = await write('b.txt.gz', gzipSync('\n'.repeat(1 << 20)))
  await expect(run([short])).rejects.toThrow(/of 1048576 rows 1048576 are empty/)
})

describe('a file that is changed while it is read', () => {
  const content = '{"text":"The quick brown fox"}\n'.repeat(100_000)

  test.each([
    [
      'grows',
      'a.jsonl',
      (file: string) => writeFile(file, content, { flag: 'a' }),
      /3100000 bytes before, [3-6]\d{6} bytes now/,
    ],
    ['is cut', 'a.jsonl', (file: string) => truncate(file, 2_000_000), /found at line|changed while it was read/],
    ['is cut', 'a.jsonl.gz', (file: string) => truncate(file, 100), /unexpected end|changed while it was read/],
    ['is removed', 'a.csv', (file: string) => unlink(file), /it is no longer there/],
    ['is removed', 'a.jsonl', (file: string) => unlink(file), /ENOENT|it is no longer there/],
  ])('%s (%s) is refused with nothing written', async (_, name, change, message) => {
    const bytes = name.endsWith('.gz')
      ? gzipSync(content)
      : name.endsWith('.csv')
        ? `text\n${'The quick brown fox jumps over it\n'.repeat(2e5)}`
        : content
    const file = await write(name, bytes)
    let changed: Promise<void> | undefined
    const onProgress = () => {
      changed ??= change(file)
    }
    await expect(run([file], { onProgress, workers: 1 })).rejects.toThrow(message)
    await changed
    await expectNothingWritten()
  })
})

test('the report is what an independent count gives', async () => {
  const texts = Array.from({ length: 500 }, (_, i) =>
    i % 9 === 0 ? '' : `${i % 5 === 0 ? '<unk> ' : ''}${'The quick brown fox jumps. '.repeat(1 + ((i * 37) % 23))}`,
  )
  const seqLength = 100
  const { report, sequences, tokens } = await run(
    [await write('a.jsonl', texts.map(text => JSON.stringify({ text })).join('\n'))],
    { seqLength },
  )
  const rows = texts.filter(text => text !== '').map(text => [...encode(text)])
  const kept = rows.filter(ids => ids.length < seqLength)
  const all = kept.flat()
  const [unknown] = encode('<unk>', { addSpecialTokens: false })
  const histogram = new Map<number, number>()
  for (const { length } of kept) {
    const from = 2 ** (length.toString(2).length - 1)
    histogram.set(from, (histogram.get(from) ?? 0) + 1)
  }
  expect(report).toMatchObject({
    ...{ rows: 500, empty: texts.length - rows.length, overLength: rows.length - kept.length, kept: kept.length },
    ...{ bad: 0, wrongColumns: 0, invalidTurns: 0, cut: 0, trainTokens: all.length },
    unknownTokens: all.filter(id => id === unknown).length,
    unknownRate: all.filter(id => id === unknown).length / all.length,
    // A sample is seqLength tokens and the one that follows: the next sample begins with that one.
    samplesPerEpoch: Math.floor((all.length - 1) / seqLength),
    lengths: [...histogram]
      .sort(([a], [b]) => a - b)
      .map(([from, count]) => ({ from: from === 1 ? 0 : from, to: 2 * from - 1, sequences: count })),
  })
  expect([sequences, tokens]).toEqual([kept.length, all.length])
  expect(report.overLength).toBeGreaterThan(0)
  expect(report.unknownTokens).toBeGreaterThan(0)
})
