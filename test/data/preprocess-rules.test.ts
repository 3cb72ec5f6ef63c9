import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { packSamples } from '../../src/data/pack-samples.ts'
import { type PreprocessOptions, preprocessCorpus } from '../../src/data/preprocess.ts'
import { loadTokenizer } from '../../src/data/tokenizer/tokenizer.ts'
import { openIndexedDataset } from '../../src/formats/indexed-dataset.ts'

const tokenizerDir = fileURLToPath(new URL('./golden/tiny/tok', import.meta.url))
const { encode } = await loadTokenizer(tokenizerDir)

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function writeRows(name: string, rows: readonly unknown[]): Promise<string> {
  const file = join(folder, name)
  await writeFile(file, rows.map(row => `${JSON.stringify(row)}\n`).join(''))
  return file
}

const texts = (name: string, rows: readonly string[]) =>
  writeRows(
    name,
    rows.map(text => ({ text })),
  )

const run = (options: Partial<PreprocessOptions> & Pick<PreprocessOptions, 'files'>) =>
  preprocessCorpus({
    handler: 'GeneralPretrainHandler',
    tokenizerDir,
    outputPrefix: join(folder, 'out', 'd'),
    ...options,
  })

function sequences(prefix: string): number[][] {
  const dataset = openIndexedDataset(prefix)
  const all = Array.from(dataset.lengths, (_, i) => [...dataset.sequence(i)])
  dataset.close()
  return all
}

const long = 'The quick brown fox jumps over the lazy dog and runs away.'

describe('sequences that are too long', () => {
  const ids = [...encode(long)]

  test('are cut to seqLength by truncate, shorter ones are not touched', async () => {
    const files = [await texts('a.jsonl', [long, 'fox'])]
    const { dataPath, report } = await run({ files, seqLength: 8, overflow: 'truncate' })
    expect(sequences(dataPath)).toEqual([ids.slice(0, 8), [...encode('fox')]])
    expect(report).toMatchObject({ cut: 1, overLength: 0, kept: 2 })
    const whole = await run({ files, seqLength: ids.length, overflow: 'truncate' })
    expect(whole.report.cut).toBe(0)
  })

  test('end with the eos where texts are to end with it', async () => {
    const files = [await texts('a.jsonl', [long])]
    const { dataPath } = await run({ files, seqLength: 8, overflow: 'truncate', appendEod: true })
    expect(sequences(dataPath)).toEqual([[...ids.slice(0, 7), 2]])
  })

  test('become several sequences of one document by split, with every token once', async () => {
    const files = [await texts('a.jsonl', [long, 'fox'])]
    const { dataPath, documents, report } = await run({ files, seqLength: 8, overflow: 'split' })
    const pieces = sequences(dataPath)
    expect(pieces.slice(0, -1).flat()).toEqual(ids)
    expect(pieces.slice(0, -2).every(({ length }) => length === 8)).toBe(true)
    expect([documents, report.kept, report.cut]).toEqual([2, pieces.length, 1])
  })

  test('leave no piece of an instruction that trains nothing', async () => {
    const row = { instruction: 'Say hi', input: '', output: 'hi there' }
    const files = [await writeRows('a.jsonl', [row])]
    const handler = 'GeneralInstructionHandler'
    const whole = sequences(`${(await run({ files, handler })).dataPath}_packed_labels_document`)[0] ?? []
    const { dataPath, report } = await run({ files, handler, seqLength: 32, overflow: 'split' })
    const labels = sequences(`${dataPath}_packed_labels_document`)
    expect(labels.flat().filter(label => label !== -100)).toEqual(whole.filter(label => label !== -100))
    expect(labels.every(piece => piece.some(label => label !== -100))).toBe(true)
    expect(report.untrained).toBe(Math.ceil(whole.length / 32) - labels.length)
    expect(report.untrained).toBeGreaterThan(0)
  })
})

describe('packing', () => {
  // Expected: the greedy rule written down independently in Python, with a sorted list and bisect.
  test.each([
    [[3, 7, 2, 7, 5, 1, 4, 9, 2, 2, 6], 9, [[7], [3, 9], [1, 8], [10, 0], [4, 6], [2, 5]]],
    [[5, 5, 5, 5], 9, [[3], [2], [1], [0]]],
    [
      [1, 1, 1, 1, 1],
      3,
      [
        [4, 3, 2],
        [1, 0],
      ],
    ],
    [[], 9, []],
    [[0, 4, 0], 9, [[1]]],
  ])('of %j into %i takes the longest that fits, the last of equals first', (lengths, capacity, bins) => {
    expect([...packSamples(Int32Array.from(lengths), capacity)]).toEqual(bins)
  })

  test('of 5,000 samples gives the bins of the greedy rule', () => {
    let x = 12345n
    const lengths = Int32Array.from({ length: 5000 }, () => {
      x = (x * 1103515245n + 12345n) % 2n ** 31n
      return 1 + (Number(x >> 8n) % 511)
    })
    const bins = [...packSamples(lengths, 511)]
    const digest = createHash('sha256').update(JSON.stringify(bins)).digest('hex')
    expect([bins.length, digest]).toEqual([2477, 'ad977d5dc68fb39f44d60505eeb784ca1f0aa8d781f388c3f807b02e6bb00519'])
  })

  test('puts whole samples together to seqLength, with their own masks and labels', async () => {
    const rows = ['a', 'some more', 'b', 'yes it is so'].map(output => ({ instruction: 'Say', input: '', output }))
    const files = [await writeRows('a.jsonl', rows)]
    const options = { files, handler: 'GeneralInstructionHandler', appendEod: true } as const
    const plain = (await run(options)).dataPath
    const samples = new Map<string, { mask: number[] | undefined; labels: number[] | undefined }>()
    const [ids, mask, labels] = ['input_ids', 'attention_mask', 'labels'].map(key =>
      sequences(`${plain}_packed_${key}_document`),
    )
    for (const [i, sample] of (ids ?? []).entries())
      samples.set(JSON.stringify(sample), { mask: mask?.[i], labels: labels?.[i] })
    const seqLength = 2 * Math.max(...(ids ?? []).map(({ length }) => length)) + 3
    const outputPrefix = join(folder, 'out', 'p')
    const { dataPath, sequences: count, report } = await run({ ...options, seqLength, pack: true, outputPrefix })
    const packed = ['input_ids', 'attention_mask', 'labels'].map(key => sequences(`${dataPath}_packed_${key}_document`))
    expect(count).toBe(2)
    for (let bin = 0; bin < count; bin++) {
      const [binIds = [], binMask = [], binLabels = []] = packed.map(values => values[bin] ?? [])
      expect([binIds.length, binMask.length, binLabels.length]).toEqual([seqLength, seqLength, seqLength])
      let at = 0
      while (binMask[at] === 1) {
        const end = binIds.indexOf(2, at) + 1
        const sample = samples.get(JSON.stringify(binIds.slice(at, end)))
        expect(sample).toEqual({ mask: binMask.slice(at, end), labels: binLabels.slice(at, end) })
        samples.delete(JSON.stringify(binIds.slice(at, end)))
        at = end
      }
      expect(new Set(binMask.slice(at))).toEqual(new Set([0]))
      expect(new Set(binLabels.slice(at))).toEqual(new Set([-100]))
    }
    expect(samples.size).toBe(0)
    expect(report).toMatchObject({ kept: 4, samplesPerEpoch: 2 })
    expect((await readdir(join(folder, 'out'))).filter(name => name.startsWith('.'))).toEqual([])
  })
})

describe('validation data', () => {
  const rows = Array.from({ length: 40 }, (_, i) => `${long} ${i}`)
  const expected = rows.map(text => JSON.stringify([...encode(text)])).sort()

  test.each([
    ['a share', 0.1, 4],
    ['a number', 7, 7],
  ])('%s of the documents is set aside, the same ones for one seed, none twice', async (_, validation, count) => {
    const files = [await texts('a.jsonl', rows)]
    const result = await run({ files, validation })
    const aside = sequences(result.validation?.dataPath ?? '')
    expect([aside.length, result.validation?.sequences, result.sequences]).toEqual([count, count, 40 - count])
    expect([...aside, ...sequences(result.dataPath)].map(ids => JSON.stringify(ids)).sort()).toEqual(expected)
    const again = await run({ files, validation, outputPrefix: join(folder, 'again', 'd') })
    expect(sequences(again.validation?.dataPath ?? '')).toEqual(aside)
    const other = await run({ files, validation, seed: 7, outputPrefix: join(folder, 'other', 'd') })
    expect(sequences(other.validation?.dataPath ?? '')).not.toEqual(aside)
  })

  test('of instructions has the same rows in ids, masks and labels', async () => {
    const files = [
      await writeRows(
        'a.jsonl',
        rows.map(output => ({ instruction: 'Say', input: '', output })),
      ),
    ]
    const { validation } = await run({ files, handler: 'GeneralInstructionHandler', validation: 5 })
    const prefix = `${validation?.dataPath}_packed`
    const [ids = [], labels = []] = [`${prefix}_input_ids_document`, `${prefix}_labels_document`].map(sequences)
    expect(ids.length).toBe(5)
    for (const [i, label] of labels.entries())
      for (const [at, id] of label.entries()) if (id !== -100) expect(id).toBe(ids[i]?.[at])
  })

  test.each([
    [0.001, /which of 40 documents sets 0 aside and leaves 40/],
    [40, /sets 40 aside and leaves 0/],
    [1.5, /validation is 1.5; it is a share between 0 and 1, or a whole number/],
    [-1, /validation is -1/],
  ])('of %d is refused', async (validation, message) => {
    await expect(run({ files: [await texts('a.jsonl', rows)], validation })).rejects.toThrow(message)
  })
})

describe('several corpora', () => {
  const ids = (text: string) => [...encode(text)]

  test('come one after another without weights, each with its own column', async () => {
    const a = await texts('a.jsonl', ['fox', 'dog'])
    const b = await writeRows('b.jsonl', [{ body: 'The' }])
    const files = [
      { files: [a], jsonKeys: ['text'] },
      { files: [b], jsonKeys: ['body'] },
    ]
    const { dataPath } = await run({ files })
    expect(dataPath).toBe(join(folder, 'out', 'd_text_document'))
    expect(sequences(dataPath)).toEqual([ids('fox'), ids('dog'), ids('The')])
  })

  test('have their share of the tokens at every point, and every document at least once', async () => {
    const [first, second] = [Array.from({ length: 30 }, (_, i) => `a${i % 10}`), ['b0', 'b1', 'b2']]
    const files = [
      { files: [await texts('a.jsonl', first)], jsonKeys: ['text'], weight: 3 },
      { files: [await texts('b.jsonl', second)], jsonKeys: ['text'], weight: 1 },
    ]
    const { dataPath, report } = await run({ files })
    const order = sequences(dataPath)
    const bs = new Set(second.map(text => JSON.stringify(ids(text))))
    const isB = order.map(sequence => bs.has(JSON.stringify(sequence)))
    expect(isB.filter(b => !b).length).toBe(30)
    expect(order.filter((_, i) => isB[i])).toEqual(
      Array.from({ length: isB.filter(Boolean).length }, (_, i) => ids(second[i % 3] ?? '')),
    )
    const size = ids('b0').length
    let [a, b] = [0, 0]
    for (const [i, sequence] of order.entries()) {
      if (isB[i]) b += sequence.length
      else a += sequence.length
      expect(Math.abs(a / 3 - b)).toBeLessThanOrEqual(size)
    }
    expect(report.passes).toEqual([1, isB.filter(Boolean).length / 3])
  })

  test.each([
    [[1, undefined], /weights of the corpora are 1, none; all have one above 0, or none has/],
    [[1, 0], /are 1, 0/],
  ])('with weights %j are refused', async (weights, message) => {
    const file = await texts('a.jsonl', ['fox'])
    const files = weights.map(weight => ({ files: [file], jsonKeys: ['text'], weight }))
    await expect(run({ files })).rejects.toThrow(message)
  })
})

describe('rules that cannot be are refused before any row is read', () => {
  test.each([
    [{ pack: true }, /pack needs the length to pack to/],
    [{ pack: true, seqLength: 8 }, /GeneralPretrainHandler gives text, which Megatron itself packs/],
    [{ overflow: 'split' as const }, /overflow is 'split' without a seqLength to split to/],
    [{ workers: 0 }, /workers is 0/],
  ])('%j', async (options, message) => {
    const running = run({ files: [await writeRows('a.jsonl', ['broken'])], ...options })
    await expect(running).rejects.toThrow(message)
    await expect(running).rejects.toMatchObject({ code: 'invalid-input' })
  })
})

test('the report says what was read, kept and left out, and is written beside the dataset', async () => {
  const files = [await texts('a.jsonl', ['fox', '', long, 'The quick'])]
  const reportFile = join(folder, 'out', 'report.json')
  const { report } = await run({ files, seqLength: 12, reportFile, digestOf: async () => 'sha256:00' })
  const lengths = ['fox', 'The quick'].map(text => encode(text).length)
  expect(report).toMatchObject({
    ...{ rows: 4, empty: 1, overLength: 1, bad: 0, kept: 2, handler: 'GeneralPretrainHandler', unknownRate: 0 },
    train: { documents: 3, sequences: 2, tokens: lengths[0]! + lengths[1]! },
    samplesPerEpoch: Math.floor((lengths[0]! + lengths[1]! - 1) / 12),
    inputDigest: createHash('sha256').update('a.jsonl sha256:00\n').digest('hex'),
  })
  for (const length of lengths)
    expect(report.lengths.filter(({ from, to }) => from <= length && length <= to).length).toBe(1)
  expect(report.lengths.reduce((sum, { sequences }) => sum + sequences, 0)).toBe(2)
  expect(JSON.parse(await readFile(reportFile, 'utf8'))).toEqual(JSON.parse(JSON.stringify(report)))
})
