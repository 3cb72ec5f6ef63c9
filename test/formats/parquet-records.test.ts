import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parquetReadObjects } from 'hyparquet'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { isFlowError } from '../../src/errors.ts'
import { readParquetRecords } from '../../src/formats/parquet-records.ts'

let folder: string
let file: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
  file = join(folder, 'rows.parquet')
  const text = Array.from({ length: 10 }, (_, i) => (i === 7 ? null : `行 ${i}`))
  const columnData = [
    { name: 'text', data: text, type: 'STRING' as const },
    { name: 'n', data: text.map((_, i) => i), type: 'INT32' as const },
  ]
  await writeFile(file, Buffer.from(parquetWriteBuffer({ columnData, rowGroupSize: 4 })))
})
afterEach(() => rm(folder, { recursive: true }))

async function read(columns?: readonly string[]) {
  const batches = []
  for await (const batch of readParquetRecords(file, { columns })) batches.push(batch)
  return batches
}

test('rows come row group by row group and know where they stand', async () => {
  const batches = await read()
  expect(batches.map(batch => batch.records.length)).toEqual([4, 4, 2])
  expect(batches.flatMap(batch => batch.records.map(record => record.text))).toEqual(
    Array.from({ length: 10 }, (_, i) => (i === 7 ? null : `行 ${i}`)),
  )
  expect(batches[1]?.locate(3)).toEqual({ place: 'row group 1, row 3' })
  expect(batches.at(-1)?.bytesRead).toBe((await readFile(file)).length)
})

test('only the columns that are asked for are read; all of them when none is there', async () => {
  expect(Object.keys((await read(['text', 'other']))[0]?.records[0] ?? {})).toEqual(['text'])
  expect(Object.keys((await read(['other']))[0]?.records[0] ?? {})).toEqual(['text', 'n'])
})

test('a damaged file is a FormatError wherever it is cut or changed', async () => {
  const whole = await readFile(file)
  for (const damaged of [
    whole.subarray(0, 20),
    Buffer.from('PAR1'),
    Buffer.alloc(0),
    whole.subarray(0, whole.length - 9),
  ]) {
    await writeFile(file, damaged)
    await expect(read()).rejects.toMatchObject({ code: 'bad-format', file })
  }
})

test('a footer that claims more than the file has is refused', async () => {
  const whole = await readFile(file)
  whole.writeUInt32LE(0x7fffffff, whole.length - 8)
  await writeFile(file, whole)
  await expect(read()).rejects.toMatchObject({ code: 'bad-format' })
})

test('no changed byte does anything but change rows or raise an error that names the file', async () => {
  const whole = await readFile(file)
  for (let at = 0; at < whole.length; at++) {
    const damaged = Buffer.from(whole)
    damaged[at] = (damaged[at] as number) ^ (at % 2 === 0 ? 0xff : 0x40)
    await writeFile(file, damaged)
    const failure = await read().then(
      () => undefined,
      (error: unknown) => error,
    )
    if (failure !== undefined && !isFlowError(failure)) throw new Error(`byte ${at}`, { cause: failure })
  }
})

test('an aborted signal stops the reading', async () => {
  const signal = AbortSignal.abort(new Error('enough'))
  const reading = (async () => {
    for await (const _ of readParquetRecords(file, { signal }));
  })()
  await expect(reading).rejects.toThrow('enough')
})

/** Rows as the library gives them that reads a whole row group at once. */
async function atOnce(): Promise<readonly Record<string, unknown>[]> {
  const bytes = await readFile(file)
  return parquetReadObjects({
    file: { byteLength: bytes.length, slice: (start, end) => new Uint8Array(bytes.subarray(start, end)).buffer },
  })
}

async function write(options: Parameters<typeof parquetWriteBuffer>[0]): Promise<void> {
  await writeFile(file, Buffer.from(parquetWriteBuffer(options)))
}

describe('pages of a row group', () => {
  const texts = Array.from({ length: 9000 }, (_, i) => (i % 11 === 0 ? null : `文本 ${i} `.repeat(i % 40)))
  const turns = texts.map((value, i) =>
    i % 5 === 0 ? [] : Array.from({ length: i % 4 }, (_, turn) => ({ from: turn % 2 ? 'gpt' : 'human', value })),
  )

  test.each([200, 3000, 1 << 20])(
    'of %i bytes give the rows of the whole, texts, numbers and lists alike',
    async pageSize => {
      const columnData = [
        { name: 'text', data: texts, type: 'STRING' as const },
        { name: 'kind', data: texts.map((_, i) => `k${i % 3}`), type: 'STRING' as const },
        { name: 'n', data: Int32Array.from(texts, (_, i) => i), type: 'INT32' as const, nullable: false },
        { name: 'conversations', data: turns, type: 'JSON' as const },
      ]
      await write({ columnData, pageSize, rowGroupSize: 7000 })
      const batches = await read()
      const rows = batches.flatMap(batch => batch.records)
      expect(JSON.stringify(rows) === JSON.stringify(await atOnce())).toBe(true)
      expect(Math.max(...batches.map(batch => batch.records.length))).toBeLessThanOrEqual(4096)
      let row = 0
      for (const batch of batches) {
        for (let i = 0; i < batch.records.length; i++, row++) {
          if (row % 997 !== 0) continue
          const place = `row group ${row < 7000 ? 0 : 1}, row ${row % 7000}`
          expect([batch.locate(i).place, batch.records[i]?.n]).toEqual([place, row])
        }
      }
    },
  )

  test('give lists whose rows go on from one page to the next', async () => {
    const text = { type: 'BYTE_ARRAY' as const, converted_type: 'UTF8' as const, repetition_type: 'OPTIONAL' as const }
    const schema = [
      { name: 'root', num_children: 1 },
      { name: 'turns', repetition_type: 'OPTIONAL' as const, converted_type: 'LIST' as const, num_children: 1 },
      { name: 'list', repetition_type: 'REPEATED' as const, num_children: 1 },
      { name: 'element', repetition_type: 'OPTIONAL' as const, num_children: 2 },
      { name: 'from', ...text },
      { name: 'value', ...text },
    ]
    for (const pageSize of [50, 4000]) {
      await write({ columnData: [{ name: 'turns', data: turns }], schema, pageSize })
      const rows = (await read()).flatMap(batch => batch.records)
      expect(JSON.stringify(rows) === JSON.stringify(await atOnce())).toBe(true)
      expect(rows.map(row => (row.turns as unknown[]).length)).toEqual(turns.map(({ length }) => length))
    }
  })

  /** Blocks as they are, or, for `size`, one byte that stands for so many, which is what a bomb is made of. */
  const zstd = (bytes: Uint8Array, size?: number) => {
    const header = Buffer.from('28b52ffd0058', 'hex')
    const count = Math.ceil((size ?? bytes.length) / 131072)
    const blocks = Array.from({ length: count }, (_, i) => {
      const part = bytes.subarray(i * 131072, (i + 1) * 131072)
      const block = Buffer.alloc(3)
      block.writeUIntLE(((size ? 131072 : part.length) << 3) | (size ? 2 : 0) | (i === count - 1 ? 1 : 0), 0, 3)
      return Buffer.concat([block, size ? Buffer.from('x') : part])
    })
    return Buffer.concat([header, ...blocks])
  }

  test('compressed with zstd are read, and a bomb among them takes no more than it says', async () => {
    const data = texts.slice(0, 2000)
    const columnData = [{ name: 'text', data, type: 'STRING' as const }]
    await write({ columnData, codec: 'ZSTD', compressors: { ZSTD: bytes => zstd(bytes) } })
    expect((await read()).flatMap(batch => batch.records.map(record => record.text))).toEqual(data)
    await write({ columnData, codec: 'ZSTD', compressors: { ZSTD: bytes => zstd(bytes, 4 * 2 ** 30) } })
    await expect(read()).rejects.toMatchObject({ code: 'bad-format' })
  })

  test('with more values than are held are refused with the numbers', async () => {
    const data = new Array(5_000_000).fill(false)
    await write({ columnData: [{ name: 'flag', data, type: 'BOOLEAN' }], rowGroupSize: 1 << 23, pageSize: 1 << 30 })
    await expect(read()).rejects.toMatchObject({ code: 'unsupported' })
    await expect(read()).rejects.toThrow(/row group 0, column "flag" has a page of 5000000 values .* of 4194304 values/)
  })
})

test('a file of no rows has none', async () => {
  await write({ columnData: [{ name: 'text', data: [], type: 'STRING' }] })
  expect(await read()).toEqual([])
})

test('text that is not UTF-8 is given as bytes, the rows around it as text', async () => {
  const data = [Buffer.from('a'), Buffer.from([0xff]), Buffer.from('é')]
  await write({ columnData: [{ name: 'text', data, type: 'BYTE_ARRAY' }] })
  const [batch] = await read()
  expect(batch?.records.map(({ text }) => text)).toEqual(['a', new Uint8Array([0xff]), 'é'])
})

describe('a row group that is damaged', () => {
  /** Changes the second of three row groups: all its pages, as the footer says where they are. */
  async function damage(): Promise<void> {
    const bytes = await readFile(file)
    const from = bytes.indexOf('行 4') - 40
    const to = bytes.indexOf('行 8') - 40
    bytes.fill(0xee, from, to)
    await writeFile(file, bytes)
  }

  test('is named with its row and column', async () => {
    await damage()
    await expect(read(['text'])).rejects.toThrow(
      /rows\.parquet: expected 4 rows in row group 1, found from row 0 on .* in column "text"/,
    )
  })

  test('is passed over with the number of its rows', async () => {
    await damage()
    const batches = []
    for await (const batch of readParquetRecords(file, { columns: ['text'], skipBad: true })) batches.push(batch)
    const rows = batches.flatMap(batch => batch.records.map(({ text }) => text))
    expect(rows).toEqual(['行 0', '行 1', '行 2', '行 3', '行 8', '行 9'])
    expect(batches.flatMap(({ bad }) => bad ?? []).map(({ rows }) => rows)).toEqual([4])
    expect(batches.at(-1)?.bytesRead).toBe((await readFile(file)).length)
  })
})
