import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { isFlowError } from '../../src/errors.ts'
import { readJsonRecords } from '../../src/formats/json-records.ts'
import { readTextRecords } from '../../src/formats/text-records.ts'

const golden = (name: string) => fileURLToPath(new URL(`golden/records/${name}`, import.meta.url))

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function collect(batches: AsyncGenerator<{ records: readonly unknown[]; locate(index: number): unknown }>) {
  const rows: unknown[] = []
  const places: unknown[] = []
  for await (const batch of batches) {
    rows.push(...batch.records)
    // Asked late, when the next batch is there.
    places.push(...batch.records.slice(0, 9).map((_, i) => () => batch.locate(i)))
  }
  return { rows, places: places.map(place => (place as () => unknown)()) }
}

async function write(name: string, content: string | Buffer): Promise<string> {
  await writeFile(join(folder, name), content)
  return join(folder, name)
}

describe('text', () => {
  test('gives the rows that Hugging Face datasets reads', async () => {
    const lines: string[] = JSON.parse(readFileSync(golden('lines.json'), 'utf8'))
    const { rows, places } = await collect(readTextRecords(golden('lines.txt')))
    expect(rows).toEqual(lines.map(text => ({ text })))
    expect(places.at(-1)).toEqual({ place: 'line 8' })
  })

  test.each([
    ['', []],
    ['\n', ['']],
    ['a', ['a']],
    ['a\n\n', ['a', '']],
    ['a\r', ['a']],
  ])('%j gives %j', async (content, lines) => {
    expect((await collect(readTextRecords(await write('x.txt', content)))).rows).toEqual(lines.map(text => ({ text })))
  })

  test('line ends that cross a read are not counted twice', async () => {
    for (const [end, extra] of [
      ['\r\n', 0],
      ['\r\n', 1],
      ['\r', 0],
    ] as const) {
      const lines = ['x'.repeat((4 << 20) - 1 - extra), 'b', 'c'.repeat(5 << 20), '']
      const { rows } = await collect(readTextRecords(await write('x.txt', lines.map(line => line + end).join(''))))
      expect(rows.map(row => (row as { text: string }).text.length)).toEqual(lines.map(line => line.length))
    }
  })

  test('bytes that are not UTF-8 are named with their line', async () => {
    const file = await write('x.txt', Buffer.from('a\r\n\xc3\xa9\n\xff\n', 'latin1'))
    await expect(collect(readTextRecords(file))).rejects.toThrow(/expected UTF-8, found other bytes in line 3/)
  })
})

describe('compressed lines', () => {
  const texts = JSON.parse(readFileSync(golden('rows.json'), 'utf8')).map(({ text }: { text: unknown }) => ({ text }))

  test.each(['members.jsonl.gz', 'frames.jsonl.zst'])('%s gives all its rows and their lines', async name => {
    const { rows, places } = await collect(readJsonRecords(golden(name)))
    expect(rows).toEqual(texts)
    expect(places.slice(0, 3)).toEqual([{ place: 'line 1' }, { place: 'line 2' }, { place: 'line 3' }])
  })

  test('lines are counted across reads', async () => {
    const lines = Array.from({ length: 9000 }, (_, i) => JSON.stringify({ i, text: 'é'.repeat(500) }))
    lines[8000] = '{"i":8000,}'
    const file = await write('x.jsonl.gz', gzipSync(lines.join('\n')))
    await expect(collect(readJsonRecords(file))).rejects.toThrow(/at line 8001, column 11: /)
  })

  test.each(['members.jsonl.gz', 'frames.jsonl.zst'])(
    '%s cut anywhere is an error, changed anywhere one or other rows',
    async name => {
      const whole = readFileSync(golden(name))
      for (let at = 0; at < whole.length; at++) {
        const file = await write(name, whole.subarray(0, at))
        const cut = await collect(readJsonRecords(file)).catch((error: unknown) => error)
        // The first member, and the first frame, ends within a line.
        expect(isFlowError(cut), `${at} bytes`).toBe(true)
        const changed = Buffer.from(whole)
        changed[at] = (changed[at] as number) ^ 0x55
        await writeFile(file, changed)
        const found = await collect(readJsonRecords(file)).catch((error: unknown) => error)
        if (found instanceof Error && !isFlowError(found)) throw new Error(`byte ${at}`, { cause: found })
      }
    },
  )

  test('a zstd window out of bounds is refused before it is given', async () => {
    // Magic number, a frame header with window descriptor, and a window of 2^41 bytes.
    const file = await write('x.jsonl.zst', Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00]))
    await expect(collect(readJsonRecords(file))).rejects.toThrow(/needs a zstd window of 2199023255552 bytes/)
  })
})
