import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { isFlowError } from '../../src/errors.ts'
import { readArrowRecords } from '../../src/formats/arrow-records.ts'

const golden = (name: string) => fileURLToPath(new URL(`golden/records/${name}`, import.meta.url))
const rows = JSON.parse(readFileSync(golden('rows.json'), 'utf8'))

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function read(file: string, columns?: readonly string[]) {
  const batches = []
  for await (const batch of readArrowRecords(file, { columns })) batches.push(batch)
  return batches
}

const rowsOf = (batches: Awaited<ReturnType<typeof read>>) => batches.flatMap(batch => batch.records)

test.each(['stream.arrow', 'file.arrow'])('%s gives the rows that pyarrow wrote', async name => {
  const batches = await read(golden(name))
  expect(rowsOf(batches)).toEqual(rows)
  expect(batches.map(batch => batch.records.length)).toEqual([4, 4, 3])
  expect(batches[1]?.locate(2)).toEqual({ place: 'record batch 1, row 2' })
  const ends = batches.map(batch => batch.bytesRead)
  expect(ends).toEqual([...ends].sort((a, b) => a - b))
  expect(ends.at(-1)).toBeLessThanOrEqual(readFileSync(golden(name)).length)
})

test('a file of Hugging Face datasets is read', async () => {
  const expected = rows.map(({ text, turns }: Record<string, unknown>) => ({ text, turns }))
  expect(rowsOf(await read(golden('datasets.arrow')))).toEqual(expected)
})

test('a slice is read whose offsets and bits begin elsewhere, past columns of other types', async () => {
  const expected = rows.slice(3, 10).map(({ text, flag }: Record<string, unknown>) => ({ text, flag }))
  expect(rowsOf(await read(golden('other.arrow'), ['text', 'flag']))).toEqual(expected)
})

test('only the columns that are asked for are read; all that can be when none is there', async () => {
  expect(Object.keys(rowsOf(await read(golden('stream.arrow'), ['flag', 'other']))[0] ?? {})).toEqual(['flag'])
  expect(Object.keys(rowsOf(await read(golden('other.arrow'), ['other']))[0] ?? {})).toEqual(['text', 'flag'])
})

test('a column of another type, and a compressed batch, are refused by name', async () => {
  await expect(read(golden('other.arrow'), ['when'])).rejects.toThrow(/column "when" has values of type timestamp/)
  await expect(read(golden('other.arrow'), ['category'])).rejects.toThrow(/"category" has values of type dictionary/)
  await expect(read(golden('compressed.arrow'))).rejects.toMatchObject({ code: 'unsupported' })
})

test('a file cut anywhere gives fewer rows or an error that names it, and no other rows', async () => {
  const whole = readFileSync(golden('stream.arrow'))
  const file = join(folder, 'cut.arrow')
  for (let length = 0; length < whole.length; length += length < 64 ? 1 : 37) {
    await writeFile(file, whole.subarray(0, length))
    const found: unknown[] = []
    const failure = await (async () => {
      for await (const batch of readArrowRecords(file)) found.push(...batch.records)
    })().catch((error: unknown) => error)
    // Between two messages nothing shows that more were to come.
    if (failure !== undefined) expect(failure).toMatchObject({ code: 'bad-format', file })
    expect(found).toEqual(rows.slice(0, found.length))
    if (length < 1000) expect(failure).toBeDefined()
  }
})

test.each(['datasets.arrow', 'other.arrow'])(
  'no changed byte of %s does anything but change rows or raise an error',
  async name => {
    const whole = readFileSync(golden(name))
    const file = join(folder, name)
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole)
      changed[at] = (changed[at] as number) ^ (at % 2 === 0 ? 0xff : 0x40)
      await writeFile(file, changed)
      const failure = await read(file, ['text', 'turns']).then(
        () => undefined,
        (error: unknown) => error,
      )
      if (failure !== undefined && !isFlowError(failure)) throw new Error(`byte ${at}`, { cause: failure })
    }
  },
)

test('what is no Arrow file is refused', async () => {
  const file = join(folder, 'x.arrow')
  for (const content of ['', 'ARROW1\0\0', '{"text":"a"}\n', 'PAR1']) {
    await writeFile(file, content)
    await expect(read(file)).rejects.toMatchObject({ code: 'bad-format', file })
  }
})

test('an aborted signal stops the reading', async () => {
  const reading = (async () => {
    for await (const _ of readArrowRecords(golden('file.arrow'), { signal: AbortSignal.abort(new Error('enough')) }));
  })()
  await expect(reading).rejects.toThrow('enough')
})
