import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { openSafetensors } from '../formats/safetensors.ts'
import { dtypeBytes, type TensorInfo } from '../formats/tensor.ts'
import { openTorchFile } from '../formats/torch-file.ts'
import { blockBytes, checkCancelled } from './block-copy.ts'
import type { Difference } from './difference.ts'
import { crcText, type ManifestFile, type ManifestTensor, readManifest } from './manifest.ts'
import { iterationFolder, listShards, readTracker } from './megatron-folder.ts'
import { shardTensors } from './shard-tensors.ts'
import { type Compared, structural, type VerifyOptions } from './verification.ts'

/** Compares one checkpoint with its own manifest; Megatron shards without one with the CRC-32s in their directories. */
export async function verifyContents(options: VerifyOptions): Promise<Compared> {
  const path = (options.hf ?? options.megatron)!
  try {
    const iteration = options.hf !== undefined ? undefined : (options.iteration ?? (await readTracker(path)))
    const folder = iteration === undefined ? path : join(path, iterationFolder(iteration))
    const manifest = await readManifest(folder)
    const shards = iteration === undefined ? [] : (await listShards(path, iteration)).flat()
    const files = manifest?.files ?? shards.map((file): ManifestFile => unlisted(file.slice(folder.length + 1)))
    return await compareFiles(folder, files, { ...options, shards, isListed: manifest !== undefined })
  } catch (error) {
    return { checked: 'headers', tensors: 0, bytes: 0, differences: [structural(error, path)] }
  }
}

// A shard of which no manifest tells: its own directory does.
function unlisted(file: string): ManifestFile {
  return { file, byteLength: -1, tensors: [] }
}

interface FilesOptions extends VerifyOptions {
  readonly shards: readonly string[]
  readonly isListed: boolean
}

async function compareFiles(folder: string, files: readonly ManifestFile[], options: FilesOptions): Promise<Compared> {
  const { contents = true, maxDifferences = 20 } = options
  const differences: Difference[] = []
  for (const path of options.shards.filter(path => !files.some(({ file }) => join(folder, file) === path)))
    differences.push({ kind: 'structure', path, expected: 'only files of the manifest', found: 'one it does not name' })
  let [tensors, bytes] = [0, 0]
  const totalBytes = files.reduce((sum, { byteLength }) => sum + Math.max(0, byteLength), 0)
  const advance = (length: number): void => {
    bytes += length
    options.onProgress?.(bytes, Math.max(bytes, totalBytes))
  }
  for (const listed of files) {
    if (differences.length >= maxDifferences) break
    const path = join(folder, listed.file)
    try {
      const size = (await stat(path)).size
      if (options.isListed && size !== listed.byteLength) {
        const expected = `${listed.byteLength} bytes, as the manifest says`
        differences.push({ kind: 'structure', path, expected, found: `${size}` })
      }
      tensors += await compareFile(path, listed, { ...options, contents, advance, differences })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') differences.push(structural(error, path))
      else differences.push({ kind: 'structure', path, expected: 'a file, as the manifest says', found: 'none' })
    }
  }
  const checked = contents ? 'digests' : 'headers'
  return { checked, tensors, bytes, differences: differences.slice(0, maxDifferences) }
}

interface Held extends TensorInfo {
  /** What the file itself says of its contents. */
  readonly crc: number | undefined
  readonly readRows: (start: number, end: number) => Promise<Uint8Array>
}

async function compareFile(
  path: string,
  { tensors: listed }: ManifestFile,
  options: FilesOptions & { contents: boolean; advance: (bytes: number) => void; differences: Difference[] },
): Promise<number> {
  const { differences } = options
  const { held, close } = await openHeld(path)
  try {
    for (const { name, dtype, shape } of listed) {
      const it = held.get(name)
      if (it !== undefined && `${it.dtype} [${it.shape}]` === `${dtype} [${shape}]`) continue
      const found = it === undefined ? 'none' : `${it.dtype} [${it.shape}]`
      differences.push({ kind: 'digest', tensor: name, path, expected: `${dtype} [${shape}]`, found })
    }
    const byName = new Map(listed.map(tensor => [tensor.name, tensor]))
    for (const [name, tensor] of held) {
      const expected = expectedCrc(byName.get(name), tensor, options.isListed)
      if (expected === undefined && options.isListed) {
        differences.push({ kind: 'digest', tensor: name, path, expected: 'to be in the manifest', found: 'one more' })
      }
      if (expected === undefined || !options.contents) continue
      const found = crcText(await sum(tensor, options))
      if (found === expected) continue
      differences.push({ kind: 'digest', tensor: name, path, expected: `with CRC-32 ${expected}`, found })
    }
    return held.size
  } finally {
    await close()
  }
}

function expectedCrc(listed: ManifestTensor | undefined, held: Held, isListed: boolean): string | undefined {
  if (isListed) return listed?.crc32
  return held.crc === undefined ? undefined : crcText(held.crc)
}

async function openHeld(path: string): Promise<{ held: ReadonlyMap<string, Held>; close: () => Promise<void> }> {
  if (path.endsWith('.safetensors')) {
    const file = await openSafetensors(path)
    const held = [...file.tensors].map(([name, { dtype, shape }]): [string, Held] => [
      name,
      { name, dtype, shape, crc: undefined, readRows: (start, end) => file.readRows(name, start, end) },
    ])
    return { held: new Map(held), close: file.close }
  }
  const file = await openTorchFile(path)
  const held = [...shardTensors(file)].map(([name, tensor]): [string, Held] => [
    name,
    {
      ...{ name, dtype: tensor.dtype, shape: tensor.shape, crc: file.storedCrc(tensor) },
      readRows: (start, end) => file.readRows(tensor, { start, end }),
    },
  ])
  return { held: new Map(held), close: file.close }
}

async function sum(
  { shape, dtype, readRows }: Held,
  options: Pick<VerifyOptions, 'signal'> & { advance: (bytes: number) => void },
): Promise<number> {
  const rowBytes = shape.slice(1).reduce((a, b) => a * b, dtypeBytes[dtype])
  if (rowBytes === 0) return 0
  const step = Math.max(1, Math.floor(blockBytes / rowBytes))
  let crc = 0
  for (let row = 0; row < (shape[0] ?? 1); row += step) {
    checkCancelled(options.signal, 'Verifying')
    const bytes = await readRows(row, Math.min(row + step, shape[0] ?? 1))
    crc = crc32(bytes, crc)
    options.advance(bytes.length)
  }
  return crc
}
