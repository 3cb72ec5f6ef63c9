import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { CancelledError, FormatError, InputError, UnsupportedError } from '../../src/errors.ts'
import { pickle } from '../../src/formats/pickle.ts'
import type { NewTensor, PickleNamespace, PickleTensor, PickleValue } from '../../src/formats/pickle-value.ts'
import { pickleDict, pickleFloat } from '../../src/formats/pickle-value.ts'
import { checkTorchFile, openTorchFile } from '../../src/formats/torch-file.ts'
import { createTorchFile, planTorchFile } from '../../src/formats/torch-writer.ts'

const golden = fileURLToPath(new URL('golden/training.pt', import.meta.url))

async function temporary(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'ascendflow-torch-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  return join(dir, 'file.pt')
}

async function write(
  path: string,
  value: PickleValue,
  bytes: ReadonlyMap<NewTensor, Uint8Array> = new Map(),
): Promise<void> {
  const writer = await createTorchFile(path, planTorchFile(value, { root: 'model_optim_rng' }))
  for (const [tensor, data] of bytes) await writer.write(tensor, data)
  await writer.finish()
}

function entry(value: PickleValue | undefined, ...path: string[]): PickleValue | undefined {
  let at = value
  for (const key of path) {
    at = at instanceof Map ? at.get(key) : (at as { entries: ReadonlyMap<PickleValue, PickleValue> }).entries.get(key)
  }
  return at
}

test('a training checkpoint saved by PyTorch is read: arguments, state dict, optimizer, generator states', async () => {
  const file = await openTorchFile(golden)
  const { fields } = entry(file.value, 'args') as PickleNamespace
  expect(Object.fromEntries(fields)).toEqual({
    num_layers: 2,
    lr: pickleFloat(1),
    big: 2 ** 40,
    bigger: 2n ** 62n,
    negative: -3,
    small: pickleFloat(1e-5),
    name: 'ä',
    nothing: null,
    flag: true,
    list: [1, 'a', null],
    tuple: { type: 'tuple', items: [1, 2] },
    params_dtype: { type: 'dtype', dtype: 'BF16' },
    model_type: { type: 'object', of: 'megatron.core.enums ModelType', args: [1] },
    nested: new Map([['a', new Map([['b', []]])]]),
  })
  expect(entry(file.value, 'checkpoint_version')).toEqual(pickleFloat(3))
  const weight = entry(file.value, 'model', 'weight') as PickleTensor
  expect(weight).toMatchObject({ dtype: 'F32', shape: [2, 3], stride: [3, 1] })
  expect([...new Float32Array((await file.readRows(weight, { start: 0, end: 2 })).buffer)]).toEqual([0, 1, 2, 3, 4, 5])
  expect(entry(file.value, 'optimizer', 'param_groups')).toHaveLength(1)
  expect(entry((entry(file.value, 'rng_state') as PickleValue[])[0], 'np_rng_state')).toBeDefined()
  await file.close()
})

test('every type of tensor is read with its elements', async () => {
  const file = await openTorchFile(golden)
  const elements: Readonly<Record<string, number[]>> = {
    bfloat16: [0x80, 0x3f, 0, 0, 0x40, 0x40],
    float16: [0, 0x3c, 0, 0, 0, 0x42],
    int64: [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
    int32: [1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0],
    int16: [1, 0, 0, 0, 3, 0],
    int8: [1, 0, 3],
    uint8: [1, 0, 3],
    bool: [1, 0, 1],
  }
  for (const [type, expected] of Object.entries(elements)) {
    const tensor = entry(file.value, 'types', type) as PickleTensor
    expect([type, ...(await file.readRows(tensor, { start: 0, end: 3 }))]).toEqual([type, ...expected])
  }
  await file.close()
})

test('views of one storage are read in place, and one that is not contiguous is refused when read', async () => {
  const file = await openTorchFile(golden)
  const middle = entry(file.value, 'views', 'middle') as PickleTensor
  const shared = entry(file.value, 'views', 'shared') as PickleTensor
  expect(middle.offset).toBe(shared.offset + 24)
  expect([...new Float32Array((await file.readRows(middle, { start: 1, end: 2 })).buffer)]).toEqual([9, 10, 11])
  const transposed = entry(file.value, 'views', 'transposed') as PickleTensor
  const refused = file.readRows(transposed, { start: 0, end: 1 })
  await expect(refused).rejects.toThrow(UnsupportedError)
  await expect(refused).rejects.toThrow('shape [6,4] has strides [1,6]')
  await file.close()
})

test('what is written is read back equal, value by value and byte by byte', async () => {
  const path = await temporary()
  const a: NewTensor = { type: 'new-tensor', dtype: 'BF16', shape: [3, 2] }
  const b: NewTensor = { type: 'new-tensor', dtype: 'I64', shape: [1] }
  const empty: NewTensor = { type: 'new-tensor', dtype: 'F32', shape: [0, 7] }
  const plain = pickleDict([
    [
      'integers',
      [0, 1, 255, 256, 65535, 65536, -1, 2 ** 31 - 1, -(2 ** 31), 2 ** 31, 2 ** 53 - 1, 2n ** 63n - 1n, -(2n ** 63n)],
    ],
    ['floats', [pickleFloat(3), pickleFloat(1e-5), pickleFloat(Number.POSITIVE_INFINITY)]],
    ['texts', ['', 'größe', '𝄞', 'x'.repeat(70000)]],
    ['others', [true, false, null, [], new Map(), { type: 'tuple', items: [] }, { type: 'tuple', items: [1, [2]] }]],
    ['args', { type: 'namespace', fields: new Map<string, PickleValue>([['dtype', { type: 'dtype', dtype: 'F16' }]]) }],
  ])
  await write(
    path,
    pickleDict([
      ['plain', plain],
      [
        'tensors',
        {
          type: 'ordered-dict',
          entries: new Map([
            ['a', a],
            ['b', b],
            ['empty', empty],
          ]),
        },
      ],
    ]),
    new Map([
      [a, Uint8Array.from({ length: 12 }, (_, i) => i)],
      [b, new Uint8Array(8).fill(255)],
    ]),
  )
  const file = await openTorchFile(path)
  expect(entry(file.value, 'plain')).toEqual(plain)
  const read = entry(file.value, 'tensors', 'a') as PickleTensor
  expect(read).toMatchObject({ dtype: 'BF16', shape: [3, 2], stride: [2, 1] })
  expect(read.offset % 64).toBe(0)
  expect([...(await file.readRows(read, { start: 1, end: 3 }))]).toEqual([4, 5, 6, 7, 8, 9, 10, 11])
  expect(entry(file.value, 'tensors', 'empty')).toMatchObject({ shape: [0, 7] })
  await file.close()
  await checkTorchFile(path)
})

test('numbers that are not whole are written as floats, whole ones as ints', () => {
  expect([...pickle([1.5, 2]).bytes]).toEqual([
    0x80,
    2,
    ...'](G'.split('').map(it => it.charCodeAt(0)),
    0x3f,
    0xf8,
    0,
    0,
    0,
    0,
    0,
    0,
    0x4b,
    2,
    0x65,
    0x2e,
  ])
})

test('a changed weight is found by its CRC-32', async () => {
  const path = await temporary()
  const tensor: NewTensor = { type: 'new-tensor', dtype: 'U8', shape: [5] }
  await write(path, tensor, new Map([[tensor, Uint8Array.of(1, 2, 3, 4, 5)]]))
  const file = await openTorchFile(path)
  const { offset } = file.value as PickleTensor
  await file.close()
  const handle = await open(path, 'r+')
  await handle.write(Uint8Array.of(9), 0, 1, offset + 2)
  await handle.close()
  // CRC-32 of 1, 2, 3, 4, 5 by its definition (polynomial 0xedb88320).
  const found = await checkTorchFile(path).catch(error => error)
  expect(found).toBeInstanceOf(FormatError)
  expect(found).toMatchObject({ file: path, offset, expected: "CRC-32 0x470b99f4 of 'model_optim_rng/data/0'" })
})

test('checking stops when it is cancelled', async () => {
  await expect(checkTorchFile(golden, { signal: AbortSignal.abort() })).rejects.toThrow(CancelledError)
})

test('a tensor that is not filled, or filled too far, is refused', async () => {
  const path = await temporary()
  const tensor: NewTensor = { type: 'new-tensor', dtype: 'F32', shape: [2] }
  const writer = await createTorchFile(path, planTorchFile(tensor, { root: 'r' }))
  await writer.write(tensor, new Uint8Array(4))
  await expect(writer.finish()).rejects.toThrow('r/data/0 has 4 of its 8 bytes')
  await expect(writer.write(tensor, new Uint8Array(8))).rejects.toThrow(InputError)
  await writer.close()
})

test('tensors of a file, bytes, and numbers beyond int64 cannot be pickled', async () => {
  const file = await openTorchFile(golden)
  expect(() => pickle(file.value)).toThrow(InputError)
  await file.close()
  expect(() => pickle(2n ** 63n)).toThrow('does not fit 64 bits')
  expect(() => pickle(new Uint8Array(2))).toThrow('Bytes cannot be pickled')
})

test('a file that is no zip archive is refused by name', async () => {
  const path = await temporary()
  await writeFile(path, await readFile(new URL(import.meta.url)))
  await expect(openTorchFile(path)).rejects.toMatchObject({
    code: 'bad-format',
    file: path,
    expected: 'a zip archive that ends in its directory',
  })
})
