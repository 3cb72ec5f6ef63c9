import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openIndexedDataset } from '../../src/formats/indexed-dataset.ts'
import { createIndexedDataset } from '../../src/formats/indexed-dataset-writer.ts'

const golden = fileURLToPath(new URL('./golden/indexed-dataset/a', import.meta.url))
/** What `golden` was made of; the third document has no sequence. */
const documents = [[[1, 2, 3]], [[4, 5], [6]], [], [[-100, 70000]]]

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function write(prefix: string, contents: readonly (readonly (readonly number[])[])[]) {
  const writer = await createIndexedDataset(prefix)
  for (const sequences of contents) await writer.addDocument(sequences.map(ids => Int32Array.from(ids)))
  return writer.finish()
}

/** Opens a copy of the golden dataset whose files were changed. */
async function opened(change: (files: { idx: Buffer; bin: Buffer }) => { idx?: Buffer; bin?: Buffer } | undefined) {
  const files = { idx: await readFile(`${golden}.idx`), bin: await readFile(`${golden}.bin`) }
  const { idx, bin } = { ...files, ...change(files) }
  await writeFile(join(folder, 'x.idx'), idx)
  await writeFile(join(folder, 'x.bin'), bin)
  return openIndexedDataset(join(folder, 'x'))
}

test("the files are those of Megatron's own builder, byte for byte", async () => {
  const prefix = join(folder, 'new', 'folder', 'a')
  expect(await write(prefix, documents)).toEqual({ sequences: 4, documents: 4, tokens: 8 })
  expect(await readFile(`${prefix}.idx`)).toEqual(await readFile(`${golden}.idx`))
  expect(await readFile(`${prefix}.bin`)).toEqual(await readFile(`${golden}.bin`))
  expect((await readdir(join(folder, 'new', 'folder'))).sort()).toEqual(['a.bin', 'a.idx'])
})

test('sequences, parts of them, lengths and documents are read back', () => {
  const dataset = openIndexedDataset(golden)
  try {
    expect(dataset.tokenType).toBe('int32')
    expect([...dataset.lengths]).toEqual([3, 2, 1, 2])
    expect([...dataset.documents]).toEqual([0, 1, 3, 3, 4])
    expect(dataset.tokens).toBe(8)
    expect([...dataset.sequence(3)]).toEqual([-100, 70000])
    expect([...dataset.sequence(0, { offset: 1 })]).toEqual([2, 3])
    expect([...dataset.sequence(0, { offset: 1, length: 1 })]).toEqual([2])
    expect([...dataset.sequence(0, { offset: 3 })]).toEqual([])
    expect(() => dataset.sequence(4)).toThrow(/has 4 sequences; 4 is not one/)
    expect(() => dataset.sequence(0, { length: 4 })).toThrow(/Tokens 0 to 4 of sequence 0 .* has 3/)
    expect(() => dataset.sequence(0, { offset: -1 })).toThrow(/Tokens -1 to 3/)
  } finally {
    dataset.close()
  }
})

test('a dataset longer than every buffer comes back as it was', async () => {
  const prefix = join(folder, 'long')
  const lengthOf = (document: number) => (document === 7 ? 300_000 : document % 5)
  const contents = (document: number) => new Int32Array(lengthOf(document)).fill(document)
  const writer = await createIndexedDataset(prefix)
  for (let document = 0; document < 300_000; document++) await writer.addDocument([contents(document)])
  await writer.finish()
  const dataset = openIndexedDataset(prefix)
  expect(dataset.lengths.length).toBe(300_000)
  for (const document of [0, 6, 7, 8, 131_071, 131_072, 299_999]) {
    expect(dataset.sequence(document)).toEqual(contents(document))
  }
  dataset.close()
})

test('nothing appears before the end, and nothing at all after an abort', async () => {
  const prefix = join(folder, 'a')
  const writer = await createIndexedDataset(prefix)
  await writer.addDocument([Int32Array.of(1)])
  expect((await readdir(folder)).filter(name => !name.startsWith('.'))).toEqual([])
  await writer.abort()
  expect(await readdir(folder)).toEqual([])
})

test('an earlier dataset stays as it was until the new one is complete', async () => {
  const prefix = join(folder, 'a')
  await write(prefix, [[[1]]])
  const writer = await createIndexedDataset(prefix)
  await writer.addDocument([Int32Array.of(2, 3)])
  await writer.abort()
  expect([...openIndexedDataset(prefix).sequence(0)]).toEqual([1])
  await write(prefix, [[[2, 3]]])
  expect([...openIndexedDataset(prefix).sequence(0)]).toEqual([2, 3])
})

describe('an index that lies is refused', () => {
  const patched =
    (at: number, ...bytes: number[]) =>
    (files: { idx: Buffer }) => {
      files.idx.set(bytes, at)
      return undefined
    }
  const cases: readonly (readonly [string, Parameters<typeof opened>[0], RegExp])[] = [
    ['no header', () => ({ idx: Buffer.alloc(20) }), /a header of 34 bytes, found 20 bytes/],
    ['an empty file', () => ({ idx: Buffer.alloc(0) }), /a header of 34 bytes, found 0 bytes/],
    ['another magic', patched(0, 0x4e), /MMIDIDX and two NULs, found bytes 4e.* \(byte 0\)/],
    ['another version', patched(9, 2), /index version 1, found version 2 \(byte 9\)/],
    ['an unknown dtype', patched(17, 9), /dtype code from 1 to 8, found 9 \(byte 17\)/],
    [
      'more sequences than fit',
      patched(18, 255, 255, 255, 255),
      /at most 10 sequences in a file of this size, found 4294967295/,
    ],
    [
      '2^64 - 1 sequences',
      patched(18, 255, 255, 255, 255, 255, 255, 255, 255),
      /found 18446744073709551615 \(byte 18\)/,
    ],
    ['more documents than fit', patched(26, 16), /at most 15 document entries in a file of this size, found 16/],
    ['one sequence too few', patched(18, 3), /110 bytes for 3 sequences and 5 document entries, found 122 bytes/],
    [
      'a byte too many',
      ({ idx }) => ({ idx: Buffer.concat([idx, Buffer.alloc(1)]) }),
      /122 bytes for 4 sequences .* found 123 bytes/,
    ],
    ['a byte too few', ({ idx }) => ({ idx: idx.subarray(0, 121) }), /122 bytes for 4 sequences .* found 121 bytes/],
    ['a negative length', patched(37, 128), /a length of sequence 0, found -2147483645 \(byte 34\)/],
    [
      'a length that does not fit the offsets',
      patched(34, 4),
      /byte 16 of \.bin as the start of sequence 1 .* found 12 \(byte 58\)/,
    ],
    ['a length that overruns .bin', patched(46, 3), /9 tokens × 4 bytes = 36 bytes, as .*x\.idx says, found 32 bytes/],
    ['an offset that is negative', patched(65, 255), /as the start of sequence 1/],
    ['documents that do not start with 0', patched(82, 1), /starts with 0, found 1 \(byte 82\)/],
    ['documents that go backwards', patched(98, 0), /a document end from 1 to 4, found 0 \(byte 98\)/],
    ['documents beyond the last sequence', patched(114, 5), /a document end from 3 to 4, found 5 \(byte 114\)/],
    ['documents that end early', patched(114, 3), /ends with the number of sequences, 4, found 3/],
    ['a shorter .bin', ({ bin }) => ({ bin: bin.subarray(0, 31) }), /as .*x\.idx says, found 31 bytes/],
    ['a longer .bin', ({ bin }) => ({ bin: Buffer.concat([bin, bin]) }), /found 64 bytes/],
  ]
  test.each(cases)('%s', async (_, change, message) => {
    await expect(opened(change)).rejects.toThrow(message)
    await expect(opened(change)).rejects.toMatchObject({ code: 'bad-format' })
  })

  test('no document index at all', async () => {
    const idx = (await readFile(`${golden}.idx`)).subarray(0, 34)
    idx.fill(0, 18)
    await expect(opened(() => ({ idx, bin: Buffer.alloc(0) }))).rejects.toThrow(/found no document index/)
  })

  test('files that are not there', () => {
    expect(() => openIndexedDataset(join(folder, 'none'))).toThrow(
      /none\.idx: expected a file of a Megatron dataset.*no such file/,
    )
  })
})

test('floats and multimodal modes are named as unsupported', async () => {
  const floats = opened(({ idx }) => {
    idx[17] = 7
    return undefined
  })
  await expect(floats).rejects.toMatchObject({ code: 'unsupported' })
  const modes = opened(({ idx }) => ({ idx: Buffer.concat([idx, Buffer.alloc(4)]) }))
  await expect(modes).rejects.toThrow(/mode for each sequence/)
})

test.each([
  [1, 'uint8', [1, 255]],
  [2, 'int8', [1, -128]],
  [3, 'int16', [1, -32768]],
  [4, 'int32', [1, -100]],
  [5, 'int64', [1, -100]],
  [8, 'uint16', [1, 65535]],
] as const)('tokens of dtype %i, %s, are read as numbers', async (code, type, ids) => {
  const bytes = Buffer.from(
    { uint8: Uint8Array, int8: Int8Array, int16: Int16Array, int32: Int32Array, uint16: Uint16Array, int64: undefined }[
      type
    ]?.from(ids).buffer ?? BigInt64Array.from(ids.map(BigInt)).buffer,
  )
  const idx = Buffer.alloc(34 + 12 + 16)
  Buffer.from('4d4d494449445800000100000000000000', 'hex').copy(idx)
  idx[17] = code
  idx[18] = 1
  idx[26] = 2
  idx[34] = 2
  idx[54] = 1
  await mkdir(join(folder, 'types'))
  await writeFile(join(folder, 'types', 't.idx'), idx)
  await writeFile(join(folder, 'types', 't.bin'), bytes)
  const dataset = openIndexedDataset(join(folder, 'types', 't'))
  expect(dataset.tokenType).toBe(type)
  expect([...dataset.sequence(0)]).toEqual([...ids])
  expect([...dataset.sequence(0, { offset: 1 })]).toEqual([ids[1]])
  dataset.close()
})
