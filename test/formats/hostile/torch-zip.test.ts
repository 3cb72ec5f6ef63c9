import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { FormatError, UnsupportedError } from '../../../src/errors.ts'
import { openTorchFile } from '../../../src/formats/torch-file.ts'
import { buildTorchFile, buildZip, pickleBytes } from './build-zip.ts'

async function refusal(bytes: Uint8Array): Promise<FormatError & { file: string }> {
  const dir = await mkdtemp(join(tmpdir(), 'ascendflow-hostile-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const file = join(dir, 'hostile.pt')
  await writeFile(file, bytes)
  const error = await openTorchFile(file).then(
    () => undefined,
    caught => caught,
  )
  expect(error, 'the file was opened').toBeDefined()
  if (error instanceof FormatError) expect(error.file).toBe(file)
  return error
}

const none = pickleBytes('N.')
const record = { name: 'root/data.pkl', data: none }

// 43 bytes of header and name before the four bytes of the pickle; the directory follows at byte 47.
const zips: readonly [string, Uint8Array, { offset?: number; expected: string; found: string }][] = [
  [
    'a directory that lists more entries than it has',
    buildZip([record], { count: 2 }),
    { offset: 106, expected: 'directory entry 2 of 2', found: 'something else' },
  ],
  [
    'a directory that claims more entries than the file has bytes',
    zip64({ count: 100_000_000n, size: 59n, offset: 47n }),
    { offset: 106, expected: "a number up to the file's 204 bytes", found: '100000000' },
  ],
  [
    'a directory that reaches beyond its end',
    buildZip([record], { size: 60 }),
    { offset: 106, expected: 'a directory that ends by byte 106', found: '60 bytes from byte 47' },
  ],
  [
    'a zip64 directory beyond the end of the file',
    zip64({ count: 1n, size: 59n, offset: 2n ** 60n }),
    { offset: 106, expected: "a number up to the file's 204 bytes", found: `${2n ** 60n}` },
  ],
  [
    'an entry whose data reaches into the directory',
    buildZip([{ ...record, size: 1000 }]),
    { offset: 0, expected: "'root/data.pkl' to end before the directory at byte 47", found: '1000 bytes from byte 43' },
  ],
  [
    'two entries that share bytes',
    buildZip([record, { name: 'root/data/0', data: Buffer.alloc(8), header: 0, localName: 'root/data/0' }]),
    { offset: 0, expected: "'root/data/0' to start at byte 47 or later", found: 'byte 0, inside another entry' },
  ],
  [
    'an entry that starts inside another one',
    buildZip([
      { name: 'root/data/0', data: innerRecord() },
      { name: 'root/data.pkl', data: none, header: 41 },
    ]),
    { offset: 41, expected: "'root/data.pkl' to start at byte 88 or later", found: 'byte 41, inside another entry' },
  ],
  [
    'one name for two entries',
    buildZip([record, record]),
    { offset: 153, expected: 'every name once', found: "'root/data.pkl' twice" },
  ],
  [
    'a directory entry whose local header has another name',
    buildZip([{ ...record, localName: 'evil/data.pkl' }]),
    { offset: 0, expected: "the header of 'root/data.pkl'", found: 'something else' },
  ],
  [
    'a stored entry with two sizes',
    buildZip([{ ...record, compressed: 3 }]),
    { offset: 47, expected: "'root/data.pkl' stored in 4 bytes", found: '3 bytes' },
  ],
  [
    'a size of 4 GiB without a zip64 field',
    buildZip([{ ...record, size: 0xffffffff }]),
    { offset: 47, expected: 'a zip64 field for a size of 4 GiB or more', found: 'none' },
  ],
  [
    'records in two folders',
    buildZip([record, { name: 'other/data.pkl', data: none }]),
    { expected: "one folder with a record 'data.pkl' (a torch.save file)", found: 'the folders root, other' },
  ],
  [
    'no pickle at all',
    buildZip([{ name: 'root/data/0' }]),
    { expected: "one folder with a record 'data.pkl' (a torch.save file)", found: '1 other records' },
  ],
  [
    'a pickle whose CRC-32 is another',
    buildZip([{ ...record, crc: 1 }]),
    { offset: 43, expected: "CRC-32 0x00000001 of 'root/data.pkl'", found: '0x7db5d20d' },
  ],
  [
    'an end that is cut off',
    buildZip([record]).subarray(0, 120),
    { offset: 120, expected: 'a zip archive that ends in its directory', found: 'no end of directory' },
  ],
  [
    'a comment that is longer than the file',
    buildZip([record], { comment: 5 }),
    { offset: 128, expected: 'a zip archive that ends in its directory', found: 'no end of directory' },
  ],
]

test.each(zips)('%s is refused', async (_, bytes, expected) => {
  expect(await refusal(bytes)).toMatchObject({ code: 'bad-format', ...expected })
})

test.each(['../evil', '/etc/passwd', 'root/../../evil', 'root\\evil', 'c:evil', ''])(
  'the name %j, which leaves the archive, is refused',
  async name => {
    expect(await refusal(buildZip([record, { name }]))).toMatchObject({
      code: 'bad-format',
      expected: 'names that stay inside the archive',
      found: JSON.stringify(name),
    })
  },
)

test('a compressed entry is refused as such', async () => {
  const error = await refusal(buildZip([{ ...record, method: 8 }]))
  expect(error).toBeInstanceOf(UnsupportedError)
  expect(error.message).toContain("'root/data.pkl' is compressed (method 8)")
})

test('an encrypted entry is refused as such', async () => {
  const error = await refusal(buildZip([{ ...record, flags: 1 }]))
  expect(error).toBeInstanceOf(UnsupportedError)
  expect(error.message).toContain("'root/data.pkl' is encrypted")
})

test('a big-endian file is refused as such', async () => {
  const error = await refusal(buildZip([record, { name: 'root/byteorder', data: Buffer.from('big') }]))
  expect(error).toBeInstanceOf(UnsupportedError)
  expect(error.message).toContain("byte order 'big'")
})

function innerRecord(): Buffer {
  return buildTorchFile(none).subarray(0, 47)
}

function zip64(end: { count: bigint; size: bigint; offset: bigint }): Buffer {
  const plain = buildZip([record])
  const wide = Buffer.alloc(76)
  wide.writeUInt32LE(0x06064b50, 0)
  wide.writeBigUInt64LE(end.count, 32)
  wide.writeBigUInt64LE(end.size, 40)
  wide.writeBigUInt64LE(end.offset, 48)
  wide.writeUInt32LE(0x07064b50, 56)
  wide.writeBigUInt64LE(BigInt(plain.length - 22), 64)
  return Buffer.concat([plain.subarray(0, -22), wide, plain.subarray(-22)])
}
