import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FormatError, UnsupportedError } from '../errors.ts'
import { scanJson } from './json-scan.ts'
import { readerByName } from './row-reader.ts'
import { openSafetensors, type SafetensorsFile } from './safetensors.ts'
import type { TensorInfo, TensorSource } from './tensor.ts'

const indexName = 'model.safetensors.index.json'
/** 16 MiB name more than 100 000 tensors. */
const maxIndexBytes = 16 * 2 ** 20
const maxShards = 4096
const indexLimits = { maxDepth: 4, maxItems: 1000, minBytes: 8 }

/**
 * Opens the weights of a Hugging Face folder: `model.safetensors`, or else the shards that
 * `model.safetensors.index.json` names. Reads headers only.
 *
 * @throws FormatError when index and shards disagree in either direction; UnsupportedError for other weight files.
 */
export async function openSafetensorsFolder(dir: string): Promise<TensorSource> {
  const single = join(dir, 'model.safetensors')
  if (await exists(single)) return openSafetensors(single)
  const path = join(dir, indexName)
  if (!(await exists(path))) return refuseFolder(dir)
  const weightMap = await readWeightMap(path)
  const shards = new Map<string, SafetensorsFile>()
  const close = async (): Promise<void> => {
    for (const shard of shards.values()) await shard.close()
  }
  try {
    for (const name of new Set(weightMap.values())) shards.set(name, await openSafetensors(join(dir, name)))
    const homes = new Map<string, SafetensorsFile>()
    for (const [tensor, name] of weightMap) {
      const shard = shards.get(name)!
      if (!shard.tensors.has(tensor)) {
        throw new FormatError({ file: path, expected: `tensor '${tensor}' in ${name}`, found: 'none' })
      }
      homes.set(tensor, shard)
    }
    for (const shard of shards.values()) {
      for (const tensor of shard.tensors.keys()) {
        if (homes.get(tensor) === shard) continue
        throw new FormatError({
          file: shard.path,
          expected: `only tensors that ${indexName} lists here`,
          found: `'${tensor}'`,
        })
      }
    }
    const tensors = new Map<string, TensorInfo>(
      [...homes].map(([tensor, shard]) => [tensor, shard.tensors.get(tensor)!]),
    )
    return {
      tensors,
      close,
      readRows: readerByName(tensor => {
        const home = homes.get(tensor)
        if (home === undefined) throw new FormatError({ file: path, expected: `tensor '${tensor}'`, found: 'none' })
        return home.readRows
      }),
    }
  } catch (error) {
    await close()
    throw error
  }
}

async function readWeightMap(path: string): Promise<ReadonlyMap<string, string>> {
  const { size } = await stat(path)
  if (size > maxIndexBytes) {
    throw new FormatError({ file: path, expected: `an index of at most ${maxIndexBytes} bytes`, found: `${size}` })
  }
  const bytes = await readFile(path)
  const scanned = scanJson(bytes, indexLimits)
  if ('tooMuch' in scanned)
    throw new FormatError({ file: path, expected: 'an index of tensors', found: scanned.tooMuch })
  let index: { weight_map?: unknown } | null
  try {
    index = JSON.parse(bytes.toString()) as { weight_map?: unknown } | null
  } catch (cause) {
    throw new FormatError({ file: path, expected: 'JSON', found: (cause as Error).message, cause })
  }
  const map = index?.weight_map
  if (typeof map !== 'object' || map === null) {
    throw new FormatError({ file: path, expected: 'a weight_map of tensor names to files', found: typeof map })
  }
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file === 'string' && /^[^/\\\0]+\.safetensors$/.test(file)) continue
    throw new FormatError({
      file: path,
      expected: `a .safetensors file beside the index for '${tensor}'`,
      found: JSON.stringify(file),
    })
  }
  const places = new Map(Object.entries(map as Record<string, string>))
  const count = new Set(places.values()).size
  if (count > maxShards)
    throw new FormatError({ file: path, expected: `at most ${maxShards} files`, found: `${count}` })
  return places
}

async function refuseFolder(dir: string): Promise<never> {
  const names = await readdir(dir).catch(cause => {
    throw new FormatError({ file: dir, expected: 'a folder with a Hugging Face model', found: 'none', cause })
  })
  const other = names.find(name => /\.(bin|pt|pth|gguf|h5|msgpack)$/.test(name))
  if (other === undefined)
    throw new FormatError({ file: dir, expected: `model.safetensors or ${indexName}`, found: 'neither' })
  throw new UnsupportedError(`${dir}: weights in ${other} are not read, only safetensors are.`, {
    hint: 'Save the model with transformers: save_pretrained(dir, safe_serialization=True).',
  })
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
