import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseArguments, type TrainOptions } from '../../src/trainer/arguments.ts'
import { microBatch, type Samples } from '../../src/trainer/batches.ts'
import { openDataSets } from '../../src/trainer/data-sets.ts'
import { temporaryFolder, writeDataSet } from './program-fixture.ts'

const shape = { microBatchSize: 1, seqLength: 6 }

function options(dataPath: string, more = ''): TrainOptions {
  const words = `--load none --data-path ${dataPath} --seq-length 6 --micro-batch-size 1 --train-iters 3 --lr 1 --split 100,0,0 ${more}`
  return parseArguments(words.split(' ').filter(Boolean))
}

async function instructionData(
  fields: Record<'input_ids' | 'attention_mask' | 'labels', readonly (readonly number[])[]>,
) {
  const prefix = join(await temporaryFolder(), 'rows')
  for (const [field, rows] of Object.entries(fields)) {
    await writeDataSet(
      `${prefix}_packed_${field}_document`,
      rows.map(row => Int32Array.from(row)),
    )
  }
  return prefix
}

const read = (samples: Samples, sample: number) => {
  const { tokens, labels } = microBatch(samples, sample, shape)
  return { tokens: [...tokens], labels: [...labels] }
}

test('a pretraining sample is seqLength tokens, and as labels the same ones moved on by one', async () => {
  const prefix = join(await temporaryFolder(), 'text_document')
  await writeDataSet(prefix, [Int32Array.from({ length: 40 }, (_, i) => i)])
  const data = await openDataSets(options(prefix), 40)
  const { tokens, labels } = read(data.train, 0)
  expect(tokens).toEqual(tokens.map((_, i) => (tokens[0] as number) + i))
  expect(labels).toEqual(tokens.map(token => token + 1))
  expect(data.train.count).toBe(6)
  data.close()
})

describe('an instruction row', () => {
  const rows = {
    input_ids: [
      [1, 2, 3, 4],
      [1, 2, 3, 4, 5, 6, 7, 8, 9],
    ],
    attention_mask: [
      [1, 1, 1, 1],
      [1, 1, 1, 1, 1, 1, 1, 1, 1],
    ],
    labels: [
      [-100, -100, 3, 4],
      [-100, -100, -100, 4, 5, 6, 7, 8, 9],
    ],
  }

  test('is shifted by one, filled up with ignored labels or cut to seqLength', async () => {
    const data = await openDataSets(options(await instructionData(rows), '--is-instruction-dataset'), 10)
    // RandomState(1234) shuffles two elements to [0, 1], then to [1, 0].
    expect(read(data.train, 0)).toEqual({ tokens: [1, 2, 3, 0, 0, 0], labels: [-100, 3, 4, -100, -100, -100] })
    expect(read(data.train, 1)).toEqual({ tokens: [1, 2, 3, 4, 5, 6], labels: [-100, -100, 4, 5, 6, 7] })
    expect(data.train.count).toBe(4)
    data.close()
  })

  test.each<[string, Partial<typeof rows>, string]>([
    [
      'a token beyond the vocabulary',
      {
        input_ids: [
          [1, 2, 3, 4],
          [1, 2, 12, 4, 5, 6, 7, 8, 9],
        ],
      },
      "token ids from 0 to 9 (the model's vocabulary), found 12 in row 1, token 2",
    ],
    [
      'a negative token',
      { input_ids: [[-100, 2, 3, 4], rows.input_ids[1] as number[]] },
      'found -100 in row 0, token 0',
    ],
    [
      'a label beyond the vocabulary',
      { labels: [[-100, -100, 3, 99], rows.labels[1] as number[]] },
      'found 99 in row 0, token 3',
    ],
    ['a label of -1', { labels: [[-100, -1, 3, 4], rows.labels[1] as number[]] }, 'found -1 in row 0, token 1'],
    [
      'fields of different lengths',
      { labels: [[-100, 3, 4], rows.labels[1] as number[]] },
      'expected 4 tokens in row 0',
    ],
    [
      'a mask that hides tokens',
      { attention_mask: [[0, 1, 1, 1], rows.attention_mask[1] as number[]] },
      'row 0: the mask hides tokens',
    ],
    [
      'no tokens',
      {
        input_ids: [[], rows.input_ids[1] as number[]],
        attention_mask: [[], rows.attention_mask[1] as number[]],
        labels: [[], rows.labels[1] as number[]],
      },
      'expected tokens in row 0, found none',
    ],
  ])('is refused with %s', async (_, change, message) => {
    const data = await openDataSets(
      options(await instructionData({ ...rows, ...change }), '--is-instruction-dataset'),
      10,
    )
    const readAll = () => [0, 1].map(sample => read(data.train, sample))
    expect(readAll).toThrow(message)
    data.close()
  })
})

test('a token beyond the vocabulary is named by file, row and place', async () => {
  const prefix = join(await temporaryFolder(), 'text_document')
  await writeDataSet(prefix, [
    Int32Array.from({ length: 12 }, (_, i) => i),
    Int32Array.of(1, 2, 77, 3, 4, 5, 6, 7, 8, 9),
  ])
  const data = await openDataSets(options(prefix), 40)
  const readAll = () => [0, 1, 2].map(sample => read(data.train, sample))
  expect(readAll).toThrow(
    `${prefix}.bin: expected token ids from 0 to 39 (the model's vocabulary), found 77 in row 1, token 2. Was the data made with`,
  )
  data.close()
})

test('the digest names the content of the data, not where it lies', async () => {
  const prefixes = [join(await temporaryFolder(), 'a'), join(await temporaryFolder(), 'b')] as const
  for (const prefix of prefixes) await writeDataSet(prefix, [Int32Array.from({ length: 40 }, (_, i) => i)])
  const digest = async (prefix: string) => {
    const data = await openDataSets(options(prefix), 40)
    data.close()
    return data.digest
  }
  expect(await digest(prefixes[1])).toBe(await digest(prefixes[0]))
  await writeDataSet(prefixes[1], [Int32Array.from({ length: 40 }, () => 3)])
  expect(await digest(prefixes[1])).not.toBe(await digest(prefixes[0]))
})

describe('refused', () => {
  test('data that is not there, or damaged', async () => {
    const prefix = join(await temporaryFolder(), 'text_document')
    await expect(openDataSets(options(prefix), 40)).rejects.toMatchObject({ code: 'bad-format', file: `${prefix}.idx` })
    await writeDataSet(prefix, [Int32Array.of(1, 2, 3)])
    await appendFile(`${prefix}.bin`, 'x')
    await expect(openDataSets(options(prefix), 40)).rejects.toMatchObject({ code: 'bad-format', file: `${prefix}.bin` })
    const rows = options(prefix, '--is-instruction-dataset')
    await expect(openDataSets(rows, 40)).rejects.toMatchObject({ file: `${prefix}_packed_input_ids_document.idx` })
  })

  test('a split that leaves nothing to train on', async () => {
    const prefix = join(await temporaryFolder(), 'text_document')
    await writeDataSet(prefix, [Int32Array.of(1, 2, 3)])
    await expect(openDataSets(options(prefix, '--split 10,90,0'), 40)).rejects.toThrow(
      `${prefix} has 1 sequences, none of which --split 10,90,0 trains on.`,
    )
  })
})
