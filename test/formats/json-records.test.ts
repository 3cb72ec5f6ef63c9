import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readJsonRecords } from '../../src/formats/json-records.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function read(content: string | Buffer) {
  const file = join(folder, 'rows.json')
  await writeFile(file, content)
  const rows: unknown[] = []
  const places: string[] = []
  let bytesRead = 0
  for await (const batch of readJsonRecords(file)) {
    rows.push(...batch.records)
    batch.records.slice(0, 9).forEach((_, i) => {
      places.push(batch.locate(i).place)
    })
    expect(batch.bytesRead).toBeGreaterThan(bytesRead)
    bytesRead = batch.bytesRead
  }
  return { rows, places }
}

describe('lines and arrays give the same rows', () => {
  const rows = [{ a: 1 }, { a: 'é中😀', b: [1, { c: '\\"]}' }] }, { a: null }]
  const [first, second, third] = rows.map(row => JSON.stringify(row))
  const cases: Record<string, string> = {
    'one object a line': `${first}\n${second}\n${third}\n`,
    'no newline at the end': `${first}\n${second}\n${third}`,
    'a byte order mark, CRLF and blank lines': `\ufeff\r\n${first}\r\n\r\n \t${second} \r\n${third}\r\n\n`,
    'an array on one line': `[${first},${second},${third}]`,
    'an array with all the space that JSON allows': `\ufeff \n[\r\n\t${first} ,\n${second}\n,${third}\n ]\n \r\n`,
  }
  test.each(Object.entries(cases))('%s', async (_, content) => {
    expect((await read(content)).rows).toEqual(rows)
  })
})

test.each(['', ' \n\n', '\ufeff', '[]', ' [ \n ] '])('a file without rows, %j, gives none', async content => {
  expect((await read(content)).rows).toEqual([])
})

test('rows know their lines', async () => {
  expect((await read('{"a":1}\n\n{"a":2}\r\n{"a":3}')).places).toEqual(['line 1', 'line 3', 'line 4'])
  expect((await read('[{"a":1},\n{"a":2}, {"a":\n3}]')).places).toEqual(['line 1', 'line 2', 'line 2'])
})

test('rows that cross every read, and rows longer than one, are whole', async () => {
  const rows = Array.from({ length: 3000 }, (_, i) => ({
    i,
    text: '中é😀"\\'.repeat(i === 1500 ? 1_000_000 : i % 500),
  }))
  const whole = JSON.stringify(rows)
  for (const content of [whole, rows.map(row => JSON.stringify(row)).join('\n')]) {
    expect(JSON.stringify((await read(content)).rows) === whole).toBe(true)
  }
})

describe('what is no row is named with its line and byte', () => {
  const cases: readonly (readonly [string, string | Buffer, RegExp])[] = [
    ['a trailing comma', '{"a":1}\n{"a":2,}\n', /at line 2, column 8: .*\(byte 15\)/],
    ['a bare word', '{"a":1}\n{"é": x}\n', /at line 2, column 7: Unexpected token 'x'.*\(byte 15\)/],
    ['a string without end', '{"a":"x\n{"a":1}', /at line 1, column 8: .*\(byte 7\)/],
    ['an object without end', '{"a":1}\n{"a":', /at line 2, column 6: .*\(byte 13\)/],
    ['a number', '{"a":1}\n5\n', /found a number in line 2 \(byte 8\)/],
    ['null', '{"a":1}\nnull', /found null in line 2/],
    ['an array in a line', '{"a":1}\n[{}]', /found an array in line 2/],
    ['two objects in a line', '{"a":1}{"a":2}', /at line 1, column 8: .*\(byte 7\)/],
    [
      'bytes that are no UTF-8',
      Buffer.from('{"a":1}\n{"a":"\xff"}', 'latin1'),
      /expected UTF-8, found other bytes in line 2/,
    ],
    ['another encoding', Buffer.from('\ufeff{"a":1}', 'utf16le'), /in UTF-8, found byte 0xff \(byte 0\)/],
    ['a compressed file', Buffer.from([0x1f, 0x8b, 8]), /found byte 0x1f \(byte 0\)/],
    ['text', 'hello', /found byte 0x68/],
    ['an array without end', '[{"a":1}', /'\]' at the end of the array, found the end of the file \(byte 8\)/],
    ['an array that ends with a comma', '[{"a":1},]', /at line 1.*\(byte 9\)/],
    ['an array without commas', '[{"a":1}\n{"a":2}]', /',' or '\]' after a row, found '\{' in line 2 \(byte 9\)/],
    ['an array that goes on', '[{"a":1}]\n{}', /nothing after the array, found '\{' in line 2 \(byte 10\)/],
    ['an array of numbers', '[{"a":1},\n 2]', /found a number in line 2 \(byte 11\)/],
    ['a broken row of an array', '[{"a":1},\n {"a":2 "b":3}]', /at line 2, .*\(byte 18\)/],
    ['an array cut within a string', '[{"a":"x', /at line 1.*\(byte 8\)/],
  ]
  test.each(cases)('%s', async (_, content, message) => {
    await expect(read(content)).rejects.toThrow(message)
    await expect(read(content)).rejects.toMatchObject({ code: 'bad-format', file: join(folder, 'rows.json') })
  })
})

test('an aborted signal stops the reading', async () => {
  const file = join(folder, 'rows.json')
  await writeFile(file, `${JSON.stringify({ a: 'x'.repeat(1000) })}\n`.repeat(10_000))
  const controller = new AbortController()
  const reading = (async () => {
    for await (const _ of readJsonRecords(file, { signal: controller.signal })) controller.abort(new Error('enough'))
  })()
  await expect(reading).rejects.toThrow('enough')
})
