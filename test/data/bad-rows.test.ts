import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type PreprocessOptions, preprocessCorpus } from '../../src/data/preprocess.ts'
import { readRecords } from '../../src/data/read-records.ts'

const tokenizerDir = fileURLToPath(new URL('./golden/tiny/tok', import.meta.url))

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function write(name: string, content: string | Buffer): Promise<string> {
  await writeFile(join(folder, name), content)
  return join(folder, name)
}

/** What is left of a file whose bad rows are passed over: texts with their places, and the rows and errors passed over. */
async function skim(file: string) {
  const texts: unknown[] = []
  const places: string[] = []
  const errors: string[] = []
  let bad = 0
  for await (const batch of readRecords([file], { columns: ['text'], skipBad: true })) {
    for (const [i, record] of batch.records.entries()) {
      texts.push(record.text)
      places.push(batch.locate(i).place)
    }
    bad += batch.bad?.rows ?? 0
    errors.push(...(batch.bad?.errors ?? []).map(({ message }) => message))
  }
  return { texts, places, bad, errors }
}

async function readAll(file: string): Promise<void> {
  for await (const _ of readRecords([file], { columns: ['text'] }));
}

const notUtf8 = (text: string) => Buffer.from(text, 'latin1')
const jsonlOf = (...lines: string[]) => lines.join('\n')

interface Case {
  readonly title: string
  readonly name: string
  readonly content: string | Buffer
  readonly texts: readonly string[]
  readonly places: readonly string[]
  readonly errors: readonly RegExp[]
}

const cases: readonly Case[] = [
  {
    title: 'lines that are no JSON, or no objects',
    name: 'a.jsonl',
    content: jsonlOf('{"text":"a"}', '{"text":', '[1]', '{"text":"b"}', '{"text":"\0"}', '{"text":"c"}'),
    texts: ['a', 'b', 'c'],
    places: ['line 1', 'line 4', 'line 6'],
    errors: [/at line 2, column 9: /, /an array in line 3/, /at line 5, column 10: Bad control/],
  },
  {
    title: 'a first line that is no JSON',
    name: 'a.jsonl.gz',
    content: gzipSync('text\n{"text":"a"}\n\0\0\n{"text":"b"}'),
    texts: ['a', 'b'],
    places: ['line 2', 'line 4'],
    errors: [/at line 1, column 2/, /at line 3, column 1/],
  },
  {
    title: 'JSON lines that are not UTF-8',
    name: 'a.jsonl',
    content: notUtf8('{"text":"a"}\n{"text":"\xff"}\n{"text":"b"}\n'),
    texts: ['a', 'b'],
    places: ['line 1', 'line 3'],
    errors: [/expected UTF-8, found other bytes in line 2/],
  },
  {
    title: 'a comma behind the last element of an array',
    name: 'a.json',
    content: '[{"text":"a"},\n{"text":"b"},\n]',
    texts: ['a', 'b'],
    places: ['line 1', 'line 2'],
    errors: [/at line 3, column 1: Unexpected end/],
  },
  {
    title: 'elements of an array that are broken',
    name: 'a.json',
    content: '[{"text":"a"},\n{"text":},\n\0\0,\n7,{"text":"b"} {"text":"no comma"},\n{"text":"c"}]\n{"text":"d"}',
    texts: ['a', 'b', 'c'],
    places: ['line 1', 'line 4', 'line 5'],
    errors: [
      /at line 2, column 9/,
      /at line 3, column 1/,
      /a number in line 4/,
      /expected ',' or '\]' after a row, found '\{' in line 4/,
      /expected nothing after the array, found '\{' in line 6/,
    ],
  },
  {
    title: 'brackets that close nothing',
    name: 'a.json',
    content: '[{"text":"a"}}},{"text":"b"}]',
    texts: ['a', 'b'],
    places: ['line 1', 'line 1'],
    errors: [/found '\}' in line 1/, /found '\}' in line 1/],
  },
  {
    title: 'the element at which an array was cut off',
    name: 'a.json',
    content: '[{"text":"a"},\n{"text":"b',
    texts: ['a'],
    places: ['line 1'],
    errors: [/at line 2, column \d+: Unterminated string/],
  },
  {
    title: 'the end of an array that was cut off between two',
    name: 'a.json',
    content: '[{"text":"a"}',
    texts: ['a'],
    places: ['line 1'],
    errors: [/expected '\]' at the end of the array, found the end of the file/],
  },
  {
    title: 'CSV rows of another number of fields',
    name: 'a.csv',
    content: '\ufefftext,n\na,1\nb\nc,2,3\n"d\n",4\n',
    texts: ['a', 'd\n'],
    places: ['line 2', 'line 5'],
    errors: [/expected 2 fields .* found 1 in line 3/, /found 3 in line 4/],
  },
  {
    title: 'a CSV line whose quote never ends',
    name: 'a.csv',
    content: 'text,n\na,1\nb,"2\nc,3\nd,4\n',
    texts: ['a', 'c', 'd'],
    places: ['line 2', 'line 4', 'line 5'],
    errors: [/open since line 3/],
  },
  {
    title: 'CSV rows that are not UTF-8',
    name: 'a.csv',
    content: notUtf8('text\na\n\xff\nb\n'),
    texts: ['a', 'b'],
    places: ['line 2', 'line 4'],
    errors: [/expected UTF-8, found other bytes in the row of line 3/],
  },
  {
    title: 'lines of text that are not UTF-8',
    name: 'a.txt',
    content: notUtf8('a\r\n\xff\r\n\rb\n\xc3'),
    texts: ['a', '', 'b'],
    places: ['line 1', 'line 3', 'line 4'],
    errors: [/other bytes in line 2/, /other bytes in line 5/],
  },
]

describe('passed over are', () => {
  test.each(cases)('$title', async ({ name, content, texts, places, errors }) => {
    const file = await write(name, content)
    const found = await skim(file)
    expect([found.texts, found.places, found.bad]).toEqual([texts, places, errors.length])
    errors.forEach((error, i) => {
      expect(found.errors[i]).toMatch(error)
    })
  })

  test.each(cases)('$title, or the file is refused with what is wrong first', async ({ name, content, errors }) => {
    const file = await write(name, content)
    await expect(readAll(file)).rejects.toMatchObject({ code: 'bad-format', file })
    if (name !== 'a.jsonl.gz') await expect(readAll(file)).rejects.toThrow(errors[0])
  })

  test('lines longer than are read, and what follows is read on', async () => {
    const long = Buffer.concat([Buffer.from('{"text":"'), Buffer.alloc(129 << 20, 'x'), Buffer.from('"}\n')])
    const before = Buffer.from('{"text":"a"}\n')
    const file = await write('a.jsonl.gz', gzipSync(Buffer.concat([before, long, before]), { level: 1 }))
    const { texts, places, errors } = await skim(file)
    expect([texts, places]).toEqual([
      ['a', 'a'],
      ['line 1', 'line 3'],
    ])
    expect(errors).toEqual([expect.stringMatching(/at most 134217728 bytes, found a longer one that begins in line 2/)])
    const plain = await write('b.jsonl', Buffer.concat([before, long, before]))
    const { report } = await run({ files: [plain], onBadRow: 'skip' })
    expect([report.rows, report.kept, report.bad]).toEqual([3, 2, 1])
    expect(report.badRows).toEqual([expect.stringMatching(/a longer one that begins in line 2 \(byte 13\)/)])
  })

  test('not the names of the columns: a CSV file without them cannot be read', async () => {
    await expect(skim(await write('a.csv', 'text,"n\na,1\n'))).rejects.toThrow(/open since line 1/)
    await expect(skim(await write('b.csv', 'a,a\n1,2\n'))).rejects.toThrow(/"a" twice/)
  })

  test('not the end of a compressed file: what is missing has no number of rows', async () => {
    const whole = gzipSync('{"text":"a"}\n'.repeat(1000))
    const file = await write('a.jsonl.gz', whole.subarray(0, whole.length - 9))
    await expect(skim(file)).rejects.toThrow(/a gzip file, found unexpected end of file/)
  })
})

const run = (options: Partial<PreprocessOptions> & Pick<PreprocessOptions, 'files'>) =>
  preprocessCorpus({
    handler: 'GeneralPretrainHandler',
    tokenizerDir,
    outputPrefix: join(folder, 'out', 'd'),
    ...options,
  })

describe('the report', () => {
  test('tells unreadable rows from wrong columns, and names the first of them', async () => {
    const file = await write('a.csv', 'text,n\nfox,1\nfox\nfox,2,3\ndog,4\n')
    const other = await write('b.json', '[{"text":"fox"},{"text":5},{"n":1},{"text":null},]')
    const { report } = await run({ files: [file, other], onBadRow: 'skip' })
    expect([report.rows, report.kept, report.bad, report.wrongColumns]).toEqual([9, 3, 3, 3])
    expect(report.badRows).toHaveLength(5)
    expect(report.badRows[3]).toMatch(/b\.json: expected text in column "text" of every row, found a number in line 1/)
  })

  test('is the same after a kill, whatever was passed over before it', async () => {
    // Over a thousand rows: more than one block, with bad rows before, among and behind them.
    const rows = Array.from({ length: 3000 }, (_, i) => (i % 7 === 0 ? 'fox,1' : `fox ${i}`))
    const files = [await write('a.csv', `text\n1,2\n${rows.join('\n')}\n1,2\n`)]
    const options = { files, onBadRow: 'skip', resumeEveryBytes: 1 } as const
    const whole = await run({ ...options, outputPrefix: join(folder, 'whole', 'd') })
    for (const stopAt of [1, 2, 3]) {
      const outputPrefix = join(folder, `stopped-${stopAt}`, 'd')
      const stop = new AbortController()
      let calls = 0
      const onProgress = () => {
        if (++calls === stopAt) stop.abort()
      }
      await expect(run({ ...options, outputPrefix, onProgress, signal: stop.signal })).rejects.toThrow()
      const { report } = await run({ ...options, outputPrefix })
      expect(report).toEqual(whole.report)
      const [found, expected] = [outputPrefix, join(folder, 'whole', 'd')].map(prefix =>
        readFile(`${prefix}_text_document.bin`),
      )
      expect((await found)?.equals((await expected) ?? Buffer.alloc(0))).toBe(true)
    }
    expect(whole.report.bad).toBe(2 + Math.ceil(3000 / 7))
  })
})
