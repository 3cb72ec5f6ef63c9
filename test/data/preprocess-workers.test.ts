import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { cutLineRanges, lineRoomBytes, rangeBytes, readLineRange } from '../../src/data/json-line-ranges.ts'
import { type PreprocessOptions, preprocessCorpus } from '../../src/data/preprocess.ts'

const tokenizerDir = fileURLToPath(new URL('./golden/tiny/tok', import.meta.url))
const tiny = fileURLToPath(new URL('./golden/tiny/', import.meta.url))

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

/** About 3.5 MB of rows of very different lengths, in lines that cross the ranges wherever they do. */
async function writeCorpus(): Promise<string> {
  const file = join(folder, 'corpus.jsonl')
  const sentence = 'The quick brown fox jumps over the lazy dog. '
  const lines = Array.from({ length: 3000 }, (_, i) =>
    JSON.stringify({ text: i % 50 === 0 ? '' : `${i} ${sentence.repeat(1 + ((i * 7919) % 47))}` }),
  )
  // One line that is longer than two ranges, and one without an end.
  lines.splice(1500, 0, JSON.stringify({ text: 'fox '.repeat(550_000) }))
  await writeFile(file, lines.join('\n'))
  return file
}

const run = (options: Partial<PreprocessOptions> & Pick<PreprocessOptions, 'files'>, out = 'out') =>
  preprocessCorpus({
    ...{ handler: 'GeneralPretrainHandler', tokenizerDir, appendEod: true, seqLength: 1 << 22 },
    ...{ outputPrefix: join(folder, out, 'd'), ...options },
  })

/** sha256 of each file: comparing millions of bytes one by one takes minutes. */
async function contents(out: string): Promise<Readonly<Record<string, string>>> {
  const found: Record<string, string> = {}
  for (const name of (await readdir(join(folder, out))).sort())
    found[name] = createHash('sha256')
      .update(await readFile(join(folder, out, name)))
      .digest('hex')
  return found
}

/** Remembers the first progress that is told. */
function noteFirst() {
  let first: number | undefined
  return {
    first: () => first,
    note: (done: number) => {
      first ??= done
    },
  }
}

describe('ranges of a file', () => {
  test.each([
    ['memory of their own', 0],
    ['memory that is used again', lineRoomBytes],
  ])('hold each line once, wherever they are cut, in %s', async (_, roomBytes) => {
    const file = await writeCorpus()
    const ranges = (await cutLineRanges(file)) ?? []
    expect(ranges.length).toBeGreaterThan(4)
    const room = Buffer.alloc(roomBytes)
    const parts: Buffer[] = []
    for (const range of ranges) {
      const { bytes, offset } = await readLineRange(range, room)
      expect(offset).toBe(bytes.length === 0 ? range.end : Buffer.concat(parts).length)
      parts.push(Buffer.from(bytes))
    }
    expect(Buffer.concat(parts).equals(await readFile(file))).toBe(true)
  })

  test.each([
    ['a line that ends where a range does', rangeBytes],
    ['a line that ends one byte before', rangeBytes - 1],
    ['a line that ends one byte after', rangeBytes + 1],
    ['a line that ends with the room behind it', lineRoomBytes - 1],
    ['a line that ends one byte behind the room', lineRoomBytes],
    ['a line that ends three ranges later', 4 * rangeBytes],
  ])('%s', async (_, length) => {
    const file = join(folder, 'a.jsonl')
    const line = (bytes: number) => `${JSON.stringify({ text: 'x'.repeat(bytes - 12) })}\n`
    await writeFile(file, line(length) + line(20) + line(30))
    const lines = []
    const room = Buffer.alloc(lineRoomBytes)
    for (const range of (await cutLineRanges(file)) ?? [])
      lines.push((await readLineRange(range, room)).bytes.toString())
    expect(lines.join('')).toBe(await readFile(file, 'utf8'))
    const second = lines.find((text, i) => i > 0 && text !== '') ?? ''
    expect(second.length).toBe(length >= rangeBytes ? 50 : 30)
  })

  test('are those of JSON lines only', async () => {
    for (const [name, text, count] of [
      ['a.jsonl', '\ufeff\n {"text":"a"}', 1],
      ['b.json', '[{"text":"a"}]', undefined],
      ['c.txt', '{"text":"a"}', undefined],
      ['d.json', '', undefined],
    ] as const) {
      const file = join(folder, name)
      await writeFile(file, text)
      expect((await cutLineRanges(file))?.length, name).toBe(count)
    }
  })
})

test('the files are the same for every number of workers', async () => {
  const files = [await writeCorpus(), join(tiny, 'data.json'), join(tiny, 'data.jsonl'), join(tiny, 'data.parquet')]
  const alone = await run({ files, workers: 1 }, 'alone')
  for (const workers of [2, 3]) {
    const out = `workers-${workers}`
    const { report, tokens, documents } = await run({ files, workers }, out)
    expect([tokens, documents]).toEqual([alone.tokens, alone.documents])
    expect(report).toEqual(alone.report)
    expect(await contents(out)).toEqual(await contents('alone'))
  }
})

test('three datasets of instructions are the same with workers', async () => {
  const file = join(folder, 'a.jsonl')
  await writeFile(file, (await readFile(join(tiny, 'data.jsonl'), 'utf8')).repeat(200))
  const options = { files: [file], handler: 'GeneralInstructionHandler', seqLength: 250 } as const
  await run({ ...options, workers: 1 }, 'alone')
  await run({ ...options, workers: 2 }, 'shared')
  expect(await contents('shared')).toEqual(await contents('alone'))
})

describe('rows of files that one thread reads and others encode', () => {
  const rows = Array.from({ length: 2500 }, (_, i) => `${i} ${'the lazy dog, '.repeat(1 + ((i * 7919) % 23))}`)
  const containers = {
    'a.jsonl.gz': (texts: readonly unknown[]) => gzipSync(texts.map(text => JSON.stringify({ text, n: 1 })).join('\n')),
    'a.json': (texts: readonly unknown[]) => JSON.stringify(texts.map(text => ({ n: 1, text }))),
    'a.csv': (texts: readonly unknown[]) => `text\n${texts.map(text => `"${text}"`).join('\n')}\n`,
  }
  const names = Object.keys(containers) as (keyof typeof containers)[]

  test.each(names)('give the same files for every number of threads: %s', async name => {
    const file = join(folder, name)
    await writeFile(file, containers[name](rows))
    const alone = await run({ files: [file], workers: 1 }, 'alone')
    const { report } = await run({ files: [file], workers: 2 }, 'shared')
    expect(report).toEqual(alone.report)
    expect(await contents('shared')).toEqual(await contents('alone'))
  })

  test('are named by their place when they are wrong, or counted', async () => {
    const file = join(folder, 'a.jsonl.gz')
    await writeFile(file, containers['a.jsonl.gz']([...rows.slice(0, 1200), 7, ...rows.slice(1200), 8]))
    await expect(run({ files: [file], workers: 2 })).rejects.toThrow(/found a number in line 1201/)
    const alone = await run({ files: [file], workers: 1, onBadRow: 'skip' }, 'alone')
    const { report } = await run({ files: [file], workers: 2, onBadRow: 'skip' }, 'shared')
    expect(report).toEqual(alone.report)
    expect(report).toMatchObject({ rows: 2502, kept: 2500, wrongColumns: 2 })
  })
})

describe('a bad row', () => {
  const rows = ['{"text":"fox"}', '{"text":', '{"text":7}', '[1]', '{"n":1}', '{"text":"dog"}', '{"text":"\\ud800"}']
  const write = async () => {
    const file = join(folder, 'a.jsonl')
    await writeFile(file, rows.join('\n'))
    return file
  }

  test.each([1, 2])('stops the work with its place, with %i workers', async workers => {
    const running = run({ files: [await write()], workers })
    await expect(running).rejects.toThrow(/a\.jsonl: expected a JSON object, found at line 2, column 9/)
    await expect(running).rejects.toMatchObject({ code: 'bad-format', offset: 23 })
    expect(await readdir(join(folder, 'out'))).toEqual([])
  })

  test('is the first one, whatever the workers', async () => {
    const file = join(folder, 'b.jsonl')
    const good = `${JSON.stringify({ text: 'The quick brown fox '.repeat(500) })}\n`.repeat(120)
    await writeFile(file, `${good}{"text":1}\n${good}{"text":2}\n${good}`)
    for (const workers of [1, 2])
      await expect(run({ files: [file], workers })).rejects.toThrow(/found a number in line 121 \(byte/)
  })

  test.each([1, 2])('is counted and named where it is to be skipped, with %i workers', async workers => {
    const { report, sequences } = await run({ files: [await write()], workers, onBadRow: 'skip' })
    expect([report.rows, report.bad, report.wrongColumns, report.kept, sequences]).toEqual([7, 2, 2, 3, 3])
    expect(report.badRows.map(row => /line (\d+)/.exec(row)?.[1]).sort()).toEqual(['2', '3', '4', '5'])
  })
})

test('a tokenizer that cannot be loaded is said by a worker, too', async () => {
  const files = [await writeCorpus()]
  const running = run({ files, workers: 2, tokenizerDir: folder })
  await expect(running).rejects.toMatchObject({ code: 'bad-format' })
  await expect(running).rejects.toThrow(/tokenizer\.json: expected/)
})

describe('work that can be gone on with', () => {
  const resumeEveryBytes = 1 << 20

  test.each([1, 2])('goes on after an abort, and ends with the same files, with %i workers', async workers => {
    const files = [await writeCorpus(), join(tiny, 'data.json')]
    await run({ files, workers: 1 }, 'whole')
    const seen: number[] = []
    for (let attempt = 0; attempt < 2; attempt++) {
      const controller = new AbortController()
      let first: number | undefined
      const onProgress = (done: number) => {
        first ??= done
        if (done > first + 1.5 * resumeEveryBytes) controller.abort(new Error('enough'))
      }
      const running = run({ files, workers, resumeEveryBytes, signal: controller.signal, onProgress })
      if (attempt === 1) await running
      else await expect(running).rejects.toThrow('enough')
      seen.push(first ?? 0)
    }
    expect(seen[1]).toBeGreaterThan(2 * resumeEveryBytes)
    expect(await contents('out')).toEqual(await contents('whole'))
  })

  test('goes on after a kill', async () => {
    const files = [await writeCorpus()]
    await run({ files }, 'whole')
    const program = `
      import { preprocessCorpus } from ${JSON.stringify(new URL('../../src/data/preprocess.ts', import.meta.url).href)}
      let first
      await preprocessCorpus({ ...JSON.parse(process.argv[1]), onProgress(done) {
        first ??= done
        if (done > first + 2.5 * 2 ** 20) process.kill(process.pid, 'SIGKILL')
      } })`
    const options = {
      ...{ handler: 'GeneralPretrainHandler', tokenizerDir, appendEod: true, seqLength: 1 << 22, workers: 1 },
      ...{ outputPrefix: join(folder, 'out', 'd'), files, resumeEveryBytes },
    }
    const child = spawn(process.execPath, [
      '--import',
      'tsx',
      '--input-type=module',
      '-e',
      program,
      JSON.stringify(options),
    ])
    const ended = await new Promise(resolve => child.on('exit', (_, signal) => resolve(signal)))
    expect(ended).toBe('SIGKILL')
    const left = await readdir(join(folder, 'out'))
    expect(left).toContain('.d.resume.json')
    expect(left.filter(name => !name.startsWith('.'))).toEqual([])
    const { note, first } = noteFirst()
    await run({ files, resumeEveryBytes, workers: 1, onProgress: note })
    expect(first()).toBeGreaterThan(2 * resumeEveryBytes)
    expect(await contents('out')).toEqual(await contents('whole'))
  })

  test('begins anew when the input is another, and leaves no parts', async () => {
    const file = await writeCorpus()
    const controller = new AbortController()
    const onProgress = (done: number) => {
      if (done > 2.5 * resumeEveryBytes) controller.abort()
    }
    await expect(run({ files: [file], resumeEveryBytes, signal: controller.signal, onProgress })).rejects.toThrow()
    await appendFile(file, '\n{"text":"fox"}')
    const { note, first } = noteFirst()
    await run({ files: [file], resumeEveryBytes, onProgress: note })
    expect(first()).toBeLessThanOrEqual(rangeBytes)
    await run({ files: [file] }, 'whole')
    expect(await contents('out')).toEqual(await contents('whole'))
  })

  test('begins anew when a part is shorter than was noted', async () => {
    const file = await writeCorpus()
    const controller = new AbortController()
    const onProgress = (done: number) => {
      if (done > 2.5 * resumeEveryBytes) controller.abort()
    }
    await expect(run({ files: [file], resumeEveryBytes, signal: controller.signal, onProgress })).rejects.toThrow()
    await writeFile(join(folder, 'out', '.d_text_document.bin.part'), 'short')
    await run({ files: [file], resumeEveryBytes })
    await run({ files: [file] }, 'whole')
    expect(await contents('out')).toEqual(await contents('whole'))
  })

  test('leaves nothing after an error in the input', async () => {
    const file = await writeCorpus()
    await appendFile(file, '\nbroken')
    await expect(run({ files: [file], resumeEveryBytes })).rejects.toMatchObject({ code: 'bad-format' })
    expect(await readdir(join(folder, 'out'))).toEqual([])
  })
})
