import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { FormatError, UnsupportedError } from '../../../src/errors.ts'
import { openSafetensors } from '../../../src/formats/safetensors.ts'
import { openSafetensorsFolder } from '../../../src/formats/safetensors-folder.ts'

function file(header: unknown, data: number, length?: bigint): Buffer {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const head = Buffer.alloc(8)
  head.writeBigUInt64LE(length ?? BigInt(json.length))
  return Buffer.concat([head, json, Buffer.alloc(data)])
}

async function folder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'ascendflow-hostile-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  return dir
}

async function refusal(bytes: Uint8Array): Promise<Error> {
  const path = join(await folder(), 'hostile.safetensors')
  await writeFile(path, bytes)
  const error = await openSafetensors(path).then(
    () => undefined,
    caught => caught,
  )
  expect(error, 'the file was opened').toBeDefined()
  if (error instanceof FormatError) expect(error.file).toBe(path)
  return error
}

const four = (from: number, to: number): unknown => ({ dtype: 'F32', shape: [4], data_offsets: [from, to] })
const oneHeader = JSON.stringify({ a: four(0, 16) }).length

// The header of two tensors has 109 bytes (110 with offsets of two digits): data starts at byte 117 (118).
const lies: readonly [string, Uint8Array, { offset?: number; expected: string; found: string }][] = [
  [
    'a header longer than the file',
    file({}, 0, 500n),
    { offset: 0, expected: 'a header of at most 2 bytes', found: 'a length of 500' },
  ],
  [
    'a header length that is negative as a signed number',
    file({}, 0, 2n ** 64n - 1n),
    { offset: 0, expected: 'a header of at most 2 bytes', found: `a length of ${2n ** 64n - 1n}` },
  ],
  [
    'a file shorter than its header length',
    Buffer.alloc(5),
    { offset: 0, expected: '8 bytes up to byte 8', found: 'a file that ends at byte 5' },
  ],
  [
    'a header that is not an object',
    file('[]', 0),
    { offset: 8, expected: "a header that starts with '{'", found: 'byte 91' },
  ],
  [
    'two tensors that overlap',
    file({ a: four(0, 16), b: four(8, 24) }, 24),
    { expected: "tensor 'b' at byte 133", found: 'byte 125, inside another tensor' },
  ],
  [
    'two tensors in the same place',
    file({ a: four(0, 16), b: four(0, 16) }, 16),
    { expected: "tensor 'b' at byte 133", found: 'byte 117, inside another tensor' },
  ],
  [
    'a hole between tensors',
    file({ a: four(0, 16), b: four(20, 36) }, 36),
    { expected: "tensor 'b' at byte 134", found: 'byte 138, after a hole' },
  ],
  [
    'a hole before the first tensor',
    file({ a: four(4, 20) }, 20),
    {
      offset: 8 + oneHeader + 4,
      expected: `tensor 'a' at byte ${8 + oneHeader}`,
      found: `byte ${8 + oneHeader + 4}, after a hole`,
    },
  ],
  [
    'bytes after the last tensor',
    file({ a: four(0, 16) }, 20),
    {
      offset: 8 + oneHeader + 16,
      expected: `the file to end with its last tensor at byte ${8 + oneHeader + 16}`,
      found: `${8 + oneHeader + 20} bytes`,
    },
  ],
  [
    'a tensor beyond the end of the file',
    file({ a: four(0, 16) }, 12),
    { offset: 8 + oneHeader, expected: "tensor 'a' to end by byte 12 of the data", found: 'byte 16' },
  ],
  [
    'a shape that needs other bytes than the offsets give',
    file({ a: { dtype: 'F32', shape: [5], data_offsets: [0, 16] } }, 16),
    { expected: "20 bytes for tensor 'a' of F32 [5]", found: '16' },
  ],
  [
    'offsets that run backwards',
    file({ a: four(16, 0) }, 16),
    { expected: "16 bytes for tensor 'a' of F32 [4]", found: '-16' },
  ],
  [
    'a shape whose product overflows to the right size',
    file({ a: { dtype: 'U8', shape: [2 ** 40, 2 ** 40], data_offsets: [0, 0] } }, 0),
    { expected: "1.2089258196146292e+24 bytes for tensor 'a' of U8 [1099511627776,1099511627776]", found: '0' },
  ],
  [
    'a negative size',
    file({ a: { dtype: 'F32', shape: [-4], data_offsets: [0, 16] } }, 16),
    { offset: 8, expected: "a shape of tensor 'a'", found: '[-4]' },
  ],
  [
    'a size that is not whole',
    file({ a: { dtype: 'F32', shape: [0.5], data_offsets: [0, 2] } }, 2),
    { offset: 8, expected: "a shape of tensor 'a'", found: '[0.5]' },
  ],
  [
    'three offsets',
    file({ a: { dtype: 'F32', shape: [4], data_offsets: [0, 16, 32] } }, 16),
    { offset: 8, expected: "two data_offsets of tensor 'a'", found: '[0,16,32]' },
  ],
  [
    'an unknown type',
    file({ a: { dtype: 'F33', shape: [4], data_offsets: [0, 16] } }, 16),
    { offset: 8, expected: "a type of tensor 'a'", found: 'F33' },
  ],
  [
    'a type named like a method of objects',
    file({ a: { dtype: 'toString', shape: [4], data_offsets: [0, 16] } }, 16),
    { offset: 8, expected: "a type of tensor 'a'", found: 'toString' },
  ],
  [
    'a field that the format does not have',
    file({ a: { dtype: 'F32', shape: [4], data_offsets: [0, 16], evil: 1 } }, 16),
    { offset: 8, expected: "dtype, shape and data_offsets of 'a'", found: "'evil'" },
  ],
  [
    'metadata that is no text',
    file({ __metadata__: { format: 1 } }, 0),
    { offset: 8, expected: 'texts in __metadata__', found: '{"format":1}' },
  ],
  ['a tensor that is null', file({ a: null }, 0), { offset: 8, expected: "a type of tensor 'a'", found: 'undefined' }],
]

test.each(lies)('%s is refused', async (_, bytes, expected) => {
  expect(await refusal(bytes)).toMatchObject({ code: 'bad-format', ...expected })
})

test('a header that is broken JSON is refused with the reason', async () => {
  expect(await refusal(file('{"a":', 0))).toMatchObject({ code: 'bad-format', offset: 8, expected: 'a JSON header' })
})

test('FP8 weights are refused as such', async () => {
  const error = await refusal(file({ a: { dtype: 'F8_E4M3', shape: [4], data_offsets: [0, 4] } }, 4))
  expect(error).toBeInstanceOf(UnsupportedError)
  expect(error.message).toContain("tensor 'a' has type F8_E4M3")
})

const indexes: readonly [string, unknown, { file: string; expected: string; found: string }][] = [
  [
    'an index that names a file outside the folder',
    { weight_map: { a: '../a.safetensors' } },
    {
      file: 'model.safetensors.index.json',
      expected: "a .safetensors file beside the index for 'a'",
      found: '"../a.safetensors"',
    },
  ],
  [
    'an index that names a tensor that its shard lacks',
    { weight_map: { a: 'one.safetensors', b: 'one.safetensors' } },
    { file: 'model.safetensors.index.json', expected: "tensor 'b' in one.safetensors", found: 'none' },
  ],
  [
    'a shard with a tensor that the index places elsewhere',
    { weight_map: { a: 'two.safetensors', c: 'one.safetensors' } },
    { file: 'model.safetensors.index.json', expected: "tensor 'c' in one.safetensors", found: 'none' },
  ],
  [
    'a shard with a tensor that the index does not list',
    { weight_map: { x: 'two.safetensors' } },
    { file: 'two.safetensors', expected: 'only tensors that model.safetensors.index.json lists here', found: "'a'" },
  ],
  [
    'an index whose shard is missing',
    { weight_map: { a: 'three.safetensors' } },
    { file: 'three.safetensors', expected: 'a file', found: 'nothing' },
  ],
  [
    'an index without a weight_map',
    {},
    { file: 'model.safetensors.index.json', expected: 'a weight_map of tensor names to files', found: 'undefined' },
  ],
]

test.each(indexes)('%s is refused', async (_, index, expected) => {
  const dir = await folder()
  await writeFile(join(dir, 'one.safetensors'), file({ a: four(0, 16) }, 16))
  await writeFile(join(dir, 'two.safetensors'), file({ a: four(0, 16), x: four(16, 32) }, 32))
  await writeFile(join(dir, 'model.safetensors.index.json'), JSON.stringify(index))
  await expect(openSafetensorsFolder(dir)).rejects.toMatchObject({
    code: 'bad-format',
    ...expected,
    file: join(dir, expected.file),
  })
})

test('a folder with pytorch_model.bin alone is refused with what to do', async () => {
  const dir = await folder()
  await writeFile(join(dir, 'pytorch_model.bin'), 'x')
  await expect(openSafetensorsFolder(dir)).rejects.toThrow(
    /weights in pytorch_model.bin are not read.*safe_serialization=True/,
  )
})
