import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { deflateRawSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildTorchFile, buildZip, pickleBytes } from './build-zip.ts'

const mebi = 2 ** 20
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
const u64 = (value: bigint): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value)
  return bytes
}
const text = (value: string): Buffer => Buffer.concat([Buffer.from('X'), u32(value.length), Buffer.from(value)])
const repeat = (part: string | Buffer, byteLength: number): Buffer => Buffer.alloc(byteLength, part)

/** A safetensors file whose header is this text. */
const header = (json: string | Buffer): Buffer => {
  const bytes = Buffer.from(json as Buffer)
  return Buffer.concat([u64(BigInt(bytes.length)), bytes])
}
const numbered = (count: number, entry: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => entry(i)).join(',')
const torch = (...parts: (string | number | Uint8Array)[]): Buffer => buildTorchFile(pickleBytes(...parts))
const orderedDict = 'ccollections\nOrderedDict\n'

/** `{0: {0: …}}` in which both entries of every level are the same dict: 2^levels ways to the bottom. */
const laughs = (levels: number): Buffer =>
  Buffer.concat([
    Buffer.from('}'),
    ...Array.from({ length: levels }, (_, i) =>
      Buffer.from([0x71, i, 0x30 - 0x30 + 0x7d, 0x4b, 0, 0x68, i, 0x73, 0x4b, 1, 0x68, i, 0x73]),
    ),
  ])

/** What each file does, by its name; those of more than a few bytes are made when they are written. */
const files: Readonly<Record<string, () => Uint8Array>> = {
  'header-of-1-TB.safetensors': () => Buffer.concat([u64(2n ** 40n), Buffer.from('{}')]),
  'header-of-2-to-53.safetensors': () => Buffer.concat([u64(2n ** 53n + 1n), Buffer.from('{}')]),
  'header-of-minus-1.safetensors': () => Buffer.concat([u64(2n ** 64n - 1n), Buffer.from('{}')]),
  'header-of-lists.safetensors': () => header(`{${'"a":[],'.repeat((15 * mebi) / 7)}"b":[]}`),
  'header-of-objects.safetensors': () => header(`{${numbered(900_000, i => `"${i}":{}`)}}`),
  'header-nested.safetensors': () => header(repeat('{"a":', 15 * mebi)),
  'header-of-brackets.safetensors': () => header(Buffer.concat([Buffer.from('{"a":'), repeat('[', 15 * mebi)])),
  'header-of-axes.safetensors': () =>
    header(`{"a":{"dtype":"F32","shape":[${'1,'.repeat(7 * mebi)}1],"data_offsets":[0,4]}}`),
  'header-of-metadata.safetensors': () => header(`{"__metadata__":{${numbered(900_000, i => `"${i}":""`)}}}`),
  'header-of-quotes.safetensors': () => header(repeat('{"', 15 * mebi)),
  'header-with-long-name.safetensors': () =>
    header(`{"${'a'.repeat(15 * mebi)}":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`),
  'name-twice.safetensors': () =>
    header('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
  'shape-beyond-2-to-53.safetensors': () =>
    header('{"a":{"dtype":"F32","shape":[9007199254740993,1],"data_offsets":[0,4]}}'),
  'shape-negative.safetensors': () => header('{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}'),
  'offsets-beyond-2-to-53.safetensors': () =>
    header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[9007199254740992,9007199254740996]}}'),
  'pickle-of-dicts.pt': () => torch('](', repeat('}', 900_000), 'e(', repeat('}', 900_000), 'e.'),
  'pickle-of-lists.pt': () =>
    torch('](', ...Array.from({ length: 20 }, () => Buffer.concat([repeat(']', 900_000), Buffer.from('e(')])), 'e.'),
  'pickle-of-numbers.pt': () =>
    torch(
      '](',
      ...Array.from({ length: 14 }, () => Buffer.concat([repeat('K\0', 1_800_000), Buffer.from('e(')])),
      'e.',
    ),
  'pickle-of-memos.pt': () =>
    torch(
      'N',
      ...Array.from({ length: 40 }, (_, j) =>
        Buffer.concat(Array.from({ length: 50_000 }, (_, i) => Buffer.concat([Buffer.from('r'), u32(50_000 * j + i)]))),
      ),
      '.',
    ),
  'pickle-of-texts.pt': () =>
    torch(
      '](',
      ...Array.from({ length: 6 }, () => Buffer.concat([repeat('X\x01\0\0\0a', 5_400_000), Buffer.from('e(')])),
      'e.',
    ),
  'pickle-of-one-dict-again.pt': () =>
    torch(
      ...[orderedDict, 'q\0', ']q\x01('],
      Buffer.concat(Array.from({ length: 50_000 }, (_, i) => Buffer.concat([text(`${i}`), Buffer.from('N\x86')]))),
      ...['e\x85q\x02', '](', repeat('h\0h\x02R', 5 * 100_000), 'e.'],
    ),
  'pickle-of-one-text-encoded-again.pt': () =>
    torch(
      ...['c_codecs\nencode\nq\0', text('x'.repeat(mebi)), text('latin1'), '\x86q\x01'],
      ...['](', repeat('h\0h\x01R', 5 * 100_000), 'e.'],
    ),
  'pickle-of-colliding-keys.pt': () =>
    torch(
      '}(',
      Buffer.concat(
        Array.from({ length: 100_000 }, (_, i) =>
          Buffer.concat([Buffer.of(0x8a, 8), u64(BigInt(i) << 40n), Buffer.from('N')]),
        ),
      ),
      'u.',
    ),
  'pickle-of-many-number-keys.pt': () =>
    torch(
      '}(',
      Buffer.concat(
        Array.from({ length: 100_000 }, (_, i) => Buffer.concat([Buffer.from('J'), u32(i << 12), Buffer.from('N')])),
      ),
      'u.',
    ),
  'pickle-with-long-of-255-bytes.pt': () => torch(0x8a, 255, Buffer.alloc(255, 1), '.'),
  'pickle-with-long-of-2-GB.pt': () => torch(0x8b, u32(2 ** 31 - 1), '.'),
  'pickle-with-text-of-4-GB.pt': () => torch('X', u32(0xffffffff), 'a.'),
  'pickle-with-text-of-2-to-63.pt': () => torch(0x8d, u64(2n ** 63n), 'a.'),
  'pickle-with-bytes-of-2-to-63.pt': () => torch(0x8e, u64(2n ** 63n), 'a.'),
  'pickle-with-a-frame.pt': () => torch(0x95, u64(2n ** 62n), 'N.'),
  'pickle-nested.pt': () => torch(repeat(']', 500_000), repeat('a', 499_999), '.'),
  'pickle-nested-tuples.pt': () => torch('N', repeat('\x85', 500_000), '.'),
  'pickle-in-itself.pt': () => torch(']q\0h\0a.'),
  'pickle-in-itself-through-a-tuple.pt': () => torch(']q\0h\0\x85a.'),
  'pickle-laughing.pt': () => torch(laughs(150), '.'),
  'pickle-of-40-MB.pt': () => torch(repeat('N', 40 * mebi)),
  'zip-bomb.pt': () => {
    const data = deflateRawSync(Buffer.alloc(64 * mebi))
    return buildZip([{ name: 'root/data.pkl', data, method: 8, size: 64 * mebi, compressed: data.length }])
  },
  'zip-bomb-said-to-be-stored.pt': () => {
    const zip = buildZip([{ name: 'root/data.pkl', data: deflateRawSync(Buffer.alloc(mebi)) }])
    zip.writeUInt16LE(8, 8)
    return zip
  },
  'zip-with-other-sizes-before-the-data.pt': () => {
    const zip = buildZip([{ name: 'root/data.pkl', data: pickleBytes('N.') }])
    zip.writeUInt32LE(1, 22)
    return zip
  },
  'zip-with-entries-that-it-does-not-count.pt': () => {
    const data = pickleBytes('N.')
    return buildZip(
      [
        { name: 'root/data.pkl', data },
        { name: 'root/more', data },
      ],
      { count: 1 },
    )
  },
  'zip-of-many-entries.pt': () => buildZip(Array.from({ length: 16_000 }, (_, i) => ({ name: `root/data/${i}` }))),
}

/** Files that are huge and empty (they take no room), and a pipe into which nobody writes. */
const sparse: Readonly<Record<string, { name?: string; bytes: number }>> = {
  'zeros-of-1-TB.safetensors': { bytes: 2 ** 40 },
  'zeros-of-1-TB.pt': { bytes: 2 ** 40 },
  'big-tracker': { name: 'latest_checkpointed_iteration.txt', bytes: 2 ** 35 },
  'big-config': { name: 'config.json', bytes: 2 ** 35 },
  'big-index-folder': { name: 'model.safetensors.index.json', bytes: 2 ** 35 },
}

let dir: string
let results: ReadonlyMap<string, { code: string; ms: number; megabytes: number }>

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ascendflow-bombs-'))
  const paths: string[] = []
  for (const [name, bytes] of Object.entries(files)) {
    paths.push(join(dir, name))
    await writeFile(join(dir, name), bytes())
  }
  for (const [name, { name: inside, bytes }] of Object.entries(sparse)) {
    paths.push(join(dir, name))
    if (inside !== undefined) await mkdir(join(dir, name))
    const file = await open(inside === undefined ? join(dir, name) : join(dir, name, inside), 'w')
    await file.truncate(bytes)
    await file.close()
  }
  await promisify(execFile)('mkfifo', [join(dir, 'pipe.safetensors')])
  paths.push(join(dir, 'pipe.safetensors'))
  const program = fileURLToPath(new URL('open-all.ts', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '--import', 'tsx', program, ...paths])
  results = new Map(
    stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
      .map(result => [result.path.slice(dir.length + 1), result]),
  )
}, 120_000)

afterAll(() => rm(dir, { recursive: true, force: true }))

test.each([...Object.keys(files), ...Object.keys(sparse), 'pipe.safetensors'])(
  '%s is refused in under a second, in under 200 MB together with all before it',
  name => {
    const result = results.get(name)
    expect(result?.code).toMatch(/^(bad-format|unsupported)$/)
    expect(result?.ms).toBeLessThan(1000)
    expect(result?.megabytes).toBeLessThan(200)
  },
)
