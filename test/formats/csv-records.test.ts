import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readCsvRecords } from '../../src/formats/csv-records.ts'

let folder: string
let file: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
  file = join(folder, 'rows.csv')
})
afterEach(() => rm(folder, { recursive: true }))

async function read(content: string | Buffer) {
  await writeFile(file, content)
  const rows: unknown[] = []
  const places: string[] = []
  let bytesRead = 0
  for await (const batch of readCsvRecords(file)) {
    rows.push(...batch.records)
    batch.records.slice(0, 9).forEach((_, i) => {
      places.push(batch.locate(i).place)
    })
    bytesRead = batch.bytesRead
  }
  return { rows, places, bytesRead }
}

const golden: readonly { csv: string; rows: unknown[] }[] = JSON.parse(
  readFileSync(new URL('golden/records/csv.json', import.meta.url), 'utf8'),
)

test.each(golden)('$csv gives the rows that pandas reads', async ({ csv, rows }) => {
  const found = await read(csv)
  expect(found.rows).toEqual(rows)
  expect(found.bytesRead).toBe(Buffer.byteLength(csv))
})

test('rows know the lines they begin in', async () => {
  expect((await read('a,b\r\n"x\r\n1",2\r\n\r\n3,4\n')).places).toEqual(['line 2', 'line 5'])
})

test.each(['', '\ufeff', 'a,b', 'a,b\n', '\n\n'])('a file without rows, %j, gives none', async content => {
  expect((await read(content)).rows).toEqual([])
})

test('rows that cross every read, and rows longer than one, are whole', async () => {
  const values = Array.from({ length: 3000 }, (_, i) => ({
    i: String(i),
    text: '中é😀",\r\n'.repeat(i === 1500 ? 600_000 : i % 700),
  }))
  const lines = values.map(({ i, text }) => `${i},"${text.replaceAll('"', '""')}"`)
  const { rows } = await read(`i,text\r\n${lines.join('\r\n')}\r\n`)
  expect(JSON.stringify(rows) === JSON.stringify(values)).toBe(true)
})

test('a column named __proto__ is a column', async () => {
  const [row] = (await read('__proto__,b\nx,y\n')).rows
  expect(Object.entries(row as object)).toEqual([
    ['__proto__', 'x'],
    ['b', 'y'],
  ])
})

describe('what is no row is named with its line', () => {
  const cases: readonly (readonly [string, string | Buffer, RegExp])[] = [
    ['too few fields', 'a,b\n1,2\n3\n', /expected 2 fields in each row.*found 1 in line 3 \(byte 8\)/],
    ['too many fields', 'a,b\n1,2,3\n', /found 3 in line 2/],
    ['a quote without end', 'a,b\n1,"2\n3,4\n', /open since line 2 \(byte 6\)/],
    ['a column that is there twice', 'a,a\n1,2\n', /"a" twice in line 1/],
    ['bytes that are not UTF-8', Buffer.from('a\n1\n\xff\n', 'latin1'), /expected UTF-8.*line 3 \(byte 4\)/],
  ]
  test.each(cases)('%s', async (_, content, message) => {
    await expect(read(content)).rejects.toThrow(message)
    await expect(read(content)).rejects.toMatchObject({ code: 'bad-format', file })
  })
})
