import { copyFile, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { containerOf, measureFiles, readRecords } from '../../src/data/read-records.ts'
import { createRow } from '../../src/data/row.ts'

const golden = (name: string) => fileURLToPath(new URL(`../formats/golden/records/${name}`, import.meta.url))
const parquet = fileURLToPath(new URL('golden/tiny/data.parquet', import.meta.url))

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function write(name: string, content: string | Buffer): Promise<string> {
  await writeFile(join(folder, name), content)
  return join(folder, name)
}

async function texts(...files: string[]): Promise<string[]> {
  const found: string[] = []
  for await (const batch of readRecords(files, { columns: ['text'] })) {
    for (let i = 0; i < batch.records.length; i++) found.push(createRow(batch, i).text('text'))
  }
  return found
}

test('files of all containers, whatever the case of their extensions, follow each other', async () => {
  const json = await write('a.JSON', '[{"text":"1"}]')
  const lines = await write('b.jsonl', '{"text":"2"}\n')
  const csv = await write('c.Csv', 'text\n3\n')
  const text = await write('d.txt', '4')
  const packed = [
    await write('e.json.gz', gzipSync('[{"text":"5"}]')),
    await write('f.CSV.GZ', gzipSync('text\n6\n')),
    await write('g.txt.gz', gzipSync('7\n')),
  ]
  expect(await texts(json, lines, csv, text, ...packed)).toEqual(['1', '2', '3', '4', '5', '6', '7'])
  expect((await texts(parquet)).length).toBeGreaterThan(0)
})

test.each([
  ['a.jsonl', '.jsonl'],
  ['A.JSONL.GZ', '.jsonl.gz'],
  ['a.txt.zst', '.txt.zst'],
  ['a.parquet.gz', undefined],
  ['a.gz', undefined],
  ['a.md', undefined],
  ['constructor', undefined],
])('%s is read as %s', (name, container) => {
  expect(containerOf(name)).toBe(container)
})

test('files that are missing or of another kind are refused before anything is read', async () => {
  await expect(measureFiles([join(folder, 'a.txt')])).rejects.toThrow(/there is no such file/)
  await expect(measureFiles([await write('a.md', '')])).rejects.toThrow(/not from \.md/)
  expect(await measureFiles([await write('a.txt', 'four'), await write('b.txt', 'five')])).toBe(8)
})

describe('a bad row names its file, place and column', () => {
  test('a column of another type', async () => {
    const message = /column "text" of every row, found a number in line 2/
    await expect(texts(await write('a.jsonl', '{"text":"x"}\n{"text":5}\n'))).rejects.toThrow(message)
    await expect(texts(await write('a.json', '[{"text":"x"},\n{"text":5}]'))).rejects.toThrow(message)
    await expect(texts(await write('a.jsonl.gz', gzipSync('{"text":"x"}\n{"text":5}')))).rejects.toThrow(message)
    await expect(texts(golden('stream.arrow'))).rejects.toThrow(/column "text".*found null in record batch 0, row 3/)
  })

  test('a column that is not there', async () => {
    const missing = /column "text" of every row, found no such column in/
    await expect(texts(await write('a.csv', 'id,title\n1,x\n'))).rejects.toThrow(missing)
    await expect(texts(await write('a.jsonl', '{"title":"x"}'))).rejects.toThrow(/in line 1; its columns are title/)
  })
})

describe('bad files', () => {
  test('a truncated parquet file', async () => {
    const file = join(folder, 'a.parquet')
    await copyFile(parquet, file)
    const handle = await open(file, 'r+')
    await handle.truncate((await handle.stat()).size - 20)
    await handle.close()
    await expect(texts(file)).rejects.toMatchObject({ code: 'bad-format', file })
  })

  test('NUL bytes are text where the container lets them be, and an error where not', async () => {
    expect(await texts(await write('a.csv', 'text\nx\0y\n'), await write('a.txt', '\0'))).toEqual(['x\0y', '\0'])
    await expect(texts(await write('a.jsonl', '{"text":"x\0y"}'))).rejects.toThrow(/at line 1, column 11/)
    await expect(texts(await write('b.jsonl', '\0\0\0\0'))).rejects.toThrow(/found byte 0x00 \(byte 0\)/)
  })

  test.each(['a.json', 'a.jsonl', 'a.csv', 'a.txt'])('an empty %s has no rows', async name => {
    expect(await texts(await write(name, ''))).toEqual([])
  })

  test.each(['a.parquet', 'a.arrow', 'a.txt.gz', 'a.jsonl.zst'])('an empty %s is no such file', async name => {
    await expect(texts(await write(name, ''))).rejects.toMatchObject({ code: 'bad-format' })
  })

  test('a line of 200 MB is refused with the limit; the text around it does not matter', async () => {
    const file = join(folder, 'long.jsonl')
    const handle = await open(file, 'w')
    await handle.write('{"text":"first"}\n{"text":"')
    const piece = Buffer.alloc(1 << 20, 'x')
    for (let i = 0; i < 200; i++) await handle.write(piece)
    await handle.write('"}\n')
    await handle.close()
    await expect(texts(file)).rejects.toThrow(
      /expected rows of at most 134217728 bytes, found a longer one that begins in line 2 \(byte 17\)/,
    )
  })
})
