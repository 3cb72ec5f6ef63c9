import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { afterEach, beforeEach, expect, test } from 'vitest'
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
