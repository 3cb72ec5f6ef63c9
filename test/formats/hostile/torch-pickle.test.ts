import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { UnsupportedError } from '../../../src/errors.ts'
import { openTorchFile } from '../../../src/formats/torch-file.ts'
import { buildTorchFile, pickleBytes } from './build-zip.ts'

// The pickle starts at byte 43 of the file (30 of header, 13 of name), its first opcode two bytes later.
const firstOpcode = 45

async function refusal(pickle: Uint8Array, storages: Record<string, Uint8Array> = {}): Promise<Error> {
  const dir = await mkdtemp(join(tmpdir(), 'ascendflow-hostile-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const file = join(dir, 'hostile.pt')
  await writeFile(file, buildTorchFile(pickle, storages))
  const error = await openTorchFile(file).then(
    () => undefined,
    caught => caught,
  )
  expect(error, 'the file was opened').toBeDefined()
  expect(error.message).toContain(file)
  return error
}

const text = (value: string): Buffer => {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(value.length)
  return Buffer.concat([Buffer.from('X'), length, Buffer.from(value)])
}
const storage = (key: string, elements: number, type = 'FloatStorage'): Buffer =>
  Buffer.concat([
    Buffer.from('('),
    text('storage'),
    Buffer.from(`ctorch\n${type}\n`),
    text(key),
    text('cpu'),
    Buffer.of(0x4b, elements),
    Buffer.from('tQ'),
  ])
const tensor = (parts: { storage: Buffer; offset: number; shape: number[]; stride: number[] }): Buffer =>
  pickleBytes(
    'ctorch._utils\n_rebuild_tensor_v2\n(',
    ...[parts.storage, 0x4b, parts.offset],
    ...['(', ...parts.shape.flatMap(size => ['K', size]), 't'],
    ...['(', ...parts.stride.flatMap(size => ['K', size]), 't'],
    0x89,
    'ccollections\nOrderedDict\n)RtR.',
  )

test.each([
  ['os.system', 'cos\nsystem\n(', 'os.system'],
  ['eval', 'cbuiltins\neval\n(', 'builtins.eval'],
  [
    'a module whose name starts like an allowed one',
    'ctorch._utils.evil\n_rebuild_tensor_v2\n(',
    'torch._utils.evil._rebuild_tensor_v2',
  ],
  ['an attribute of an allowed module', 'ctorch\nload\n(', 'torch.load'],
  ['__proto__ as a class', 'c__proto__\n__proto__\n(', '__proto__.__proto__'],
])('a pickle that calls %s is refused before anything is made of it', async (_, head, name) => {
  const error = await refusal(pickleBytes(head, text('touch /tmp/x'), 'tR.'))
  expect(error).toBeInstanceOf(UnsupportedError)
  expect(error.message).toContain(`the pickle asks for ${name} (byte ${firstOpcode})`)
})

const lies: readonly [string, Uint8Array, { offset: number; expected: string; found: string }][] = [
  [
    'protocol 4',
    Buffer.of(0x80, 4, 0x4e, 0x2e),
    { offset: 43, expected: 'a pickle of protocol 2', found: 'bytes 128, 4' },
  ],
  [
    'an opcode that executes code (INST)',
    pickleBytes('(ios\nsystem\n.'),
    { offset: 46, expected: 'an opcode that torch.save writes', found: '0x69' },
  ],
  [
    'a string that reaches beyond the pickle',
    pickleBytes('X', Buffer.of(255, 255, 255, 127), 'a.'),
    { offset: 45, expected: '2147483647 bytes after the opcode', found: '2 left in the pickle' },
  ],
  [
    'a pickle without an end',
    pickleBytes('N'),
    { offset: 46, expected: '1 bytes after the opcode', found: '0 left in the pickle' },
  ],
  [
    'text that is not UTF-8',
    pickleBytes('X', Buffer.of(1, 0, 0, 0, 0xff), '.'),
    { offset: 45, expected: 'UTF-8', found: 'other bytes' },
  ],
  ['an end with two values', pickleBytes('NN.'), { offset: 47, expected: 'one value at the end', found: '2 values' }],
  [
    'taking from an empty stack',
    pickleBytes('R.'),
    { offset: 45, expected: 'a value on the stack', found: 'an empty stack' },
  ],
  ['a mark that was never set', pickleBytes('t.'), { offset: 45, expected: 'a mark on the stack', found: 'none' }],
  [
    'recalling what was never remembered',
    pickleBytes('h', 7, '.'),
    { offset: 45, expected: 'value 7, remembered before', found: 'nothing' },
  ],
  [
    'calling a string',
    pickleBytes(text('os'), ')R.'),
    { offset: 53, expected: 'a class or function to call', found: 'string' },
  ],
  [
    'a class left as a value',
    pickleBytes('cargparse\nNamespace\n.'),
    { offset: 65, expected: 'a value', found: 'a class or function' },
  ],
  [
    'giving a state to a number',
    pickleBytes('K', 1, '}b.'),
    { offset: 48, expected: 'an object to give a state', found: 'number' },
  ],
  [
    'a dict filled with half a pair',
    pickleBytes('}(Nu.'),
    { offset: 48, expected: 'pairs of key and value', found: '1 values' },
  ],
  ['appending to a dict', pickleBytes('}Na.'), { offset: 47, expected: 'a list to append to', found: 'a dict' }],
  [
    'an integer of 200 bytes',
    pickleBytes(0x8a, 200, '.'),
    { offset: 45, expected: 'an integer of up to 8 bytes', found: '200 bytes' },
  ],
  [
    'a list that contains itself',
    pickleBytes(']q', 0, 'h', 0, 'a.'),
    { offset: 51, expected: 'values that do not contain themselves', found: 'a circle' },
  ],
  [
    'tuples nested a thousand deep',
    pickleBytes('N', Buffer.alloc(1000, 0x85), '.'),
    { offset: 1046, expected: 'values up to 200 deep', found: 'deeper ones' },
  ],
  [
    'a depth that only shared values reach',
    pickleBytes('N', Buffer.alloc(150, 0x85), 'q', 0, 'h', 0, Buffer.alloc(100, 0x85), 0x86, '.'),
    { offset: 301, expected: 'values up to 200 deep', found: 'deeper ones' },
  ],
  [
    'a thousand and one open marks',
    pickleBytes(Buffer.alloc(1001, 0x28), '.'),
    { offset: 1045, expected: 'at most 1000 open marks', found: 'more' },
  ],
]

test.each(lies)('%s is refused', async (_, pickle, expected) => {
  expect(await refusal(pickle)).toMatchObject({ code: 'bad-format', ...expected })
})

const eightBytes = { 0: new Uint8Array(8) }
const tensors: readonly [string, Uint8Array, { expected: string; found: string }][] = [
  [
    'a tensor of a storage that is not there',
    tensor({ storage: storage('1', 2), offset: 0, shape: [2], stride: [1] }),
    { expected: "a record 'root/data/1'", found: 'none' },
  ],
  [
    'a storage with more elements than its record has bytes for',
    tensor({ storage: storage('0', 200), offset: 0, shape: [2], stride: [1] }),
    { expected: "800 bytes in 'root/data/0' for 200 elements of F32", found: '8' },
  ],
  [
    'a tensor that is larger than its storage',
    tensor({ storage: storage('0', 2), offset: 0, shape: [3], stride: [1] }),
    { expected: 'a [3] tensor inside its storage of 2 elements', found: 'one that reaches element 2' },
  ],
  [
    'a tensor that starts behind its storage',
    tensor({ storage: storage('0', 2), offset: 9, shape: [1], stride: [1] }),
    { expected: 'a [1] tensor inside its storage of 2 elements', found: 'one that reaches element 9' },
  ],
  [
    'a stride that leads out of the storage',
    tensor({ storage: storage('0', 2), offset: 0, shape: [2, 1], stride: [200, 1] }),
    { expected: 'a [2,1] tensor inside its storage of 2 elements', found: 'one that reaches element 200' },
  ],
  [
    'a stride of 0 that makes a storage of 2 elements a tensor of 62500',
    tensor({ storage: storage('0', 2), offset: 0, shape: [250, 250], stride: [0, 0] }),
    { expected: 'at most the 2 elements of the storage', found: 'a [250,250] tensor' },
  ],
  [
    'a tensor with more strides than axes',
    tensor({ storage: storage('0', 2), offset: 0, shape: [2], stride: [1, 1] }),
    { expected: 'a tensor of up to 64 axes with a stride for each', found: 'other arguments' },
  ],
  [
    'a storage of a key that leaves the folder',
    tensor({ storage: storage('../data.pkl', 2), offset: 0, shape: [2], stride: [1] }),
    { expected: "a record 'root/data/../data.pkl'", found: 'none' },
  ],
]

test.each(tensors)('%s is refused', async (_, pickle, expected) => {
  expect(await refusal(pickle, eightBytes)).toMatchObject({ code: 'bad-format', ...expected })
})
