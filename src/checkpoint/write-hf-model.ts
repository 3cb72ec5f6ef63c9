import { copyFile, mkdir, readdir, readFile, rmdir, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { InputError } from '../errors.ts'
import { flush } from '../formats/atomic-file.ts'
import type { FloatDtype } from '../formats/float-dtype.ts'
import { torchNames } from '../formats/pickle.ts'
import { readerByName } from '../formats/row-reader.ts'
import { createSafetensors } from '../formats/safetensors-writer.ts'
import { type Dtype, type TensorInfo, type TensorSource, tensorBytes } from '../formats/tensor.ts'
import type { Architecture } from '../models/architecture.ts'
import { readArchitecture } from '../models/config.ts'
import { type CopyOptions, checkCancelled } from './block-copy.ts'
import { type Copier, createCopier, partsAtATime } from './copier.ts'
import { appearInParts } from './folder-in-parts.ts'
import { isConstant, openHfConstants } from './hf-weights.ts'
import { inLanes } from './lanes.ts'
import { type ManifestFile, manifestTensor, planOf, writeManifest } from './manifest.ts'
import { hfTensors } from './open-hf-model.ts'
import { wholeShard } from './shard-sections.ts'

export interface WriteHfOptions extends CopyOptions {
  /** The weights under Hugging Face names. Not closed. */
  readonly source: TensorSource
  readonly architecture: Architecture
  /** Hugging Face folder whose configuration, tokenizer and code files are taken over. */
  readonly like: string
  /** Type to store; default as in the source, tensor by tensor. */
  readonly dtype?: FloatDtype | undefined
  /** Largest shard; default 5 GB (5 · 10⁹), the default of transformers 4. A larger tensor gets a shard of its own. */
  readonly maxShardBytes?: number | undefined
}

/** Names of the files around the weights of a Hugging Face model: configuration, tokenizer and code. */
export const companionFiles =
  /^(config|generation_config|tokenizer.*|special_tokens_map|added_tokens|vocab|chat_template|preprocessor_config)\.(json|jinja|model|txt)$|^merges\.txt$|^.+\.(tiktoken|py|jinja|model)$|^LICENSE.*$/

/**
 * Writes a complete Hugging Face folder: safetensors weights (shards and an index when more than `maxShardBytes`),
 * the files of `like` around them, and a manifest. `config.json` is copied as it is unless it names another type than the stored one. The
 * folder appears whole or not at all, flushed to the disk. Memory: about 6 MiB, and 20 MiB for each thread.
 *
 * @throws InputError when `dir` holds something already, or when source, architecture and `like` do not describe the
 * same model; CancelledError, leaving nothing.
 */
export async function writeHfModel(dir: string, options: WriteHfOptions): Promise<void> {
  const constants = await openHfConstants(options.like)
  if (constants === undefined) return writeFolder(dir, options)
  const { source } = options
  const both: TensorSource = {
    ...source,
    tensors: new Map([...source.tensors, ...constants.tensors]),
    readRows: readerByName(name => (isConstant(name) ? constants : source).readRows),
  }
  await writeFolder(dir, { ...options, source: both }).finally(() => constants.close())
}

async function writeFolder(dir: string, options: WriteHfOptions): Promise<void> {
  const what = `Writing the model ${dir}`
  const copier = createCopier({ ...options, what, sources: [options.source] })
  await writeAll(dir, { ...options, what, copier }).finally(() => copier.close())
}

async function writeAll(dir: string, options: WriteHfOptions & { what: string; copier: Copier }): Promise<void> {
  const { like, architecture, what, copier, signal, flush: isFlushed = true } = options
  const tensors = storedTensors(options)
  const main = tensors.values().next().value!.dtype
  const config = await configFor(like, { architecture, dtype: main })
  await mkdir(dirname(dir), { recursive: true })
  if (!options.resume) await refuseOccupied(dir)
  const totalBytes = [...tensors.values()].reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
  let doneBytes = 0
  const advance = (bytes: number): void => {
    doneBytes += bytes
    options.onProgress?.(doneBytes, totalBytes)
  }
  const { maxShardBytes = 5e9 } = options
  const dtypes = [...new Set([...tensors.values()].map(({ dtype }) => dtype))].sort()
  const plan = planOf({ kind: 'hf', dtype: dtypes, maxShardBytes, architecture })
  await appearInParts(dir, { ...options, plan }, async (folder, part) => {
    const shards = shareOut(tensors, maxShardBytes)
    const files: ManifestFile[] = []
    await inLanes(shards, partsAtATime, async shard => {
      const bytes = shard.tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
      const write = async () => [await writeShard(join(folder, shard.file), shard, { ...options, advance })]
      files.push(...(await part(shard.file, write, () => advance(bytes))))
    })
    // Its threads take a while to end.
    void copier.close()
    const writeText = async (name: string, text: string): Promise<void> => {
      await writeFile(join(folder, name), text)
      if (isFlushed) await flush(join(folder, name))
    }
    if (shards.length > 1) await writeText('model.safetensors.index.json', indexText(shards, totalBytes))
    for (const name of (await readdir(like)).filter(name => companionFiles.test(name) && name !== 'config.json')) {
      await copyFile(join(like, name), join(folder, name))
      if (isFlushed) await flush(join(folder, name))
    }
    await writeText('config.json', config)
    checkCancelled(signal, what)
    await writeManifest(folder, { plan, files }, options)
  })
}

async function refuseOccupied(dir: string): Promise<void> {
  await rmdir(dir).catch(error => {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return
    throw new InputError(`${dir} exists and is not an empty folder; a model is written to a new one.`, { cause: error })
  })
}

interface Shard {
  readonly file: string
  readonly tensors: readonly TensorInfo[]
}

// In the order of the model, as PyTorch's state dict has it.
function storedTensors(options: WriteHfOptions): ReadonlyMap<string, TensorInfo> {
  const { source, dtype } = options
  const tensors = new Map<string, TensorInfo>()
  for (const [name, shape] of hfTensors(options.architecture)) {
    const info = source.tensors.get(name)
    if (info === undefined) throw new InputError(`The source has no tensor '${name}'.`)
    if (`${info.shape}` !== `${shape}`) {
      throw new InputError(`Tensor '${name}' has shape [${info.shape}]; the architecture asks for [${shape}].`)
    }
    tensors.set(name, { name, shape, dtype: dtype ?? info.dtype })
  }
  for (const [name, info] of source.tensors) {
    if (isConstant(name)) tensors.set(name, info)
    else if (!tensors.has(name))
      throw new InputError(`Tensor '${name}' has no place in a Hugging Face model of this architecture.`)
  }
  return tensors
}

/**
 * Cuts a model into files of at most `maxBytes`: a shard is filled until the next tensor does not fit. Source:
 * huggingface_hub, split_torch_state_dict_into_shards.
 */
export function shareOut(tensors: ReadonlyMap<string, TensorInfo>, maxBytes: number): readonly Shard[] {
  const groups: TensorInfo[][] = []
  let used = 0
  for (const tensor of tensors.values()) {
    const bytes = tensorBytes(tensor)
    if (groups.length === 0 || used + bytes > maxBytes) {
      groups.push([])
      used = 0
    }
    groups.at(-1)!.push(tensor)
    used += bytes
  }
  const number = (i: number): string => String(i).padStart(5, '0')
  const fileName = (i: number): string =>
    groups.length === 1 ? 'model.safetensors' : `model-${number(i + 1)}-of-${number(groups.length)}.safetensors`
  return groups.map((group, i) => ({ file: fileName(i), tensors: group }))
}

async function writeShard(
  path: string,
  { file, tensors }: Shard,
  options: WriteHfOptions & { copier: Copier; advance: (bytes: number) => void },
): Promise<ManifestFile> {
  const { source, copier } = options
  const byName = new Map(tensors.map(tensor => [tensor.name, tensor]))
  const writer = await createSafetensors(path, tensors, { metadata: { format: 'pt' }, flush: options.flush !== false })
  try {
    const copied = await copier.copy(
      writer.order.map(name => ({
        ...{ shards: [wholeShard(byName.get(name)!)], source, dtype: byName.get(name)!.dtype },
        places: [writer.place(name)],
      })),
      options.advance,
    )
    for (const [i, name] of writer.order.entries()) writer.wrote(name, copied[i]![0]!)
    const crcs = await writer.finish()
    const written = writer.order.map(name => manifestTensor(byName.get(name)!, crcs.get(name)!))
    return { file, byteLength: (await stat(path)).size, tensors: written }
  } catch (error) {
    await writer.close().catch(() => undefined)
    throw error
  }
}

/** What `model.safetensors.index.json` says of the shards. */
export function indexText(shards: readonly Shard[], totalBytes: number): string {
  const places = shards.flatMap(shard => shard.tensors.map(tensor => [tensor.name, shard.file] as const))
  const map = Object.fromEntries(places.sort(([a], [b]) => (a < b ? -1 : 1)))
  return `${JSON.stringify({ metadata: { total_size: totalBytes }, weight_map: map }, null, 2)}\n`
}

async function configFor(like: string, options: { architecture: Architecture; dtype: Dtype }): Promise<string> {
  const file = join(like, 'config.json')
  const found = await readArchitecture(like)
  const text = await readFile(file, 'utf8')
  const config = JSON.parse(text) as Record<string, unknown>
  for (const key of Object.keys(found) as (keyof Architecture)[]) {
    const given = options.architecture[key]
    if (weightKeys.has(key) && found[key] !== given)
      throw new InputError(`The weights have ${key} ${given}, ${file} has ${found[key]}.`)
  }
  const name = torchNames[options.dtype].dtype
  const keys = ['torch_dtype', 'dtype'].filter(key => key in config)
  if (keys.every(key => config[key] === name)) return text
  for (const key of keys) config[key] = name
  return `${JSON.stringify(config, null, 2)}\n`
}

// What the shapes and names of the tensors depend on.
const weightKeys: ReadonlySet<keyof Architecture> = new Set([
  ...(['numLayers', 'hiddenSize', 'ffnHiddenSize', 'numAttentionHeads', 'numQueryGroups', 'kvChannels'] as const),
  ...(['vocabSize', 'tiedEmbeddings', 'addQkvBias', 'qkNorm'] as const),
])
