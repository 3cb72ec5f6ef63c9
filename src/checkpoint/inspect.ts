import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { FormatError, isFlowError } from '../errors.ts'
import { dictEntries, type PickleTensor, type PickleValue } from '../formats/pickle-value.ts'
import { openRandomAccessFile } from '../formats/random-access-file.ts'
import { openSafetensors } from '../formats/safetensors.ts'
import { tensorBytes as byteLengthOf } from '../formats/tensor.ts'
import { openTorchFile, type TorchFile } from '../formats/torch-file.ts'
import type { Architecture } from '../models/architecture.ts'
import { readArchitecture } from '../models/config.ts'
import { describeInspection } from './describe-inspection.ts'
import { iterationsIn } from './diagnose.ts'
import type { InspectedFile, InspectedTensor, Inspection } from './inspection.ts'
import { manifestName } from './manifest.ts'
import { architectureFromArgs, argsReader } from './megatron-args.ts'
import { type CheckpointIteration, iterationFolder, listShards, readTracker } from './megatron-folder.ts'
import { flattenModel } from './model-state.ts'
import { shardTensors } from './shard-tensors.ts'

/**
 * What a checkpoint holds, from headers alone: a Hugging Face folder, a Megatron folder (with its tracker, or one
 * iteration of it), a safetensors file, a `torch.save` file. The tensors need not make sense to any rule.
 *
 * @throws FormatError when the path is none of these, or a file is damaged.
 */
export async function inspect(
  path: string,
  options: { readonly iteration?: CheckpointIteration | undefined } = {},
): Promise<Inspection> {
  const found = await stat(path).catch(cause => {
    throw new FormatError({ file: path, expected: 'a checkpoint', found: 'nothing', cause })
  })
  if (!found.isDirectory()) return inspectFile(path)
  const names = await readdir(path)
  if (names.some(name => name.startsWith('mp_rank_'))) {
    const [iteration] = iterationsIn([basename(resolve(path))])
    if (iteration !== undefined) return inspectMegatron(dirname(resolve(path)), iteration)
  }
  const iterations = iterationsIn(names)
  const tracker = await readTracker(path).catch(() => undefined)
  const iteration = options.iteration ?? tracker ?? iterations.at(-1)
  if (iteration !== undefined) return inspectMegatron(path, iteration)
  if (names.some(name => name === 'config.json' || name.endsWith('.safetensors'))) return inspectHf(path, names)
  const expected = 'a Hugging Face folder, a Megatron folder, a safetensors or a .pt file'
  throw new FormatError({ file: path, expected, found: `a folder with ${names.slice(0, 3).join(', ') || 'nothing'}` })
}

async function inspectFile(path: string): Promise<Inspection> {
  const file = await openRandomAccessFile(path)
  const head = await file.read(0, Math.min(4, file.size)).finally(() => file.close())
  const isZip = Buffer.from(head).equals(Buffer.from('PK\x03\x04'))
  const inspected = isZip ? await torchFile(path, basename(path)) : await safetensorsFile(path, basename(path))
  return inspection({ kind: isZip ? 'torch' : 'safetensors', path, files: [inspected], hasManifest: false })
}

async function inspectHf(path: string, names: readonly string[]): Promise<Inspection> {
  const files: InspectedFile[] = []
  for (const name of names.filter(it => it.endsWith('.safetensors')).sort())
    files.push(await safetensorsFile(join(path, name), name))
  const model = await known(() => readArchitecture(path))
  return inspection({ kind: 'hf', path, files, ...model, hasManifest: names.includes(manifestName) })
}

async function inspectMegatron(path: string, iteration: CheckpointIteration): Promise<Inspection> {
  const names = await readdir(path)
  const folder = join(path, iterationFolder(iteration))
  const shards = await listShards(path, iteration)
  const tracker = await readTracker(path).catch(() => undefined)
  const opened: TorchFile[] = []
  try {
    const files: InspectedFile[] = []
    let isDistributed = false
    for (const [stage, ranks] of shards.entries()) {
      for (const [tp, shard] of ranks.entries()) {
        const file = await openTorchFile(shard)
        opened.push(file)
        files.push({ ...(await inspectShard(file, shard.slice(path.length + 1))), rank: { tp, stage } })
        isDistributed ||= (await readdir(dirname(shard))).includes('distrib_optim.pt')
      }
    }
    const first = opened[0]!
    const args = argsOf(first)
    const reader = args === undefined ? undefined : argsReader(args, first.path)
    const stages = shards.map((_, stage) => flattenModel(opened[stage * shards[0]!.length]!).chunks.map(layersIn))
    const padded = reader?.number('padded_vocab_size')
    const hasState = opened.some(file => dictEntries(file.value)?.has('optimizer') === true)
    return inspection({
      ...{ kind: 'megatron', path, iteration, iterations: iterationsIn(names), files },
      ...(tracker === undefined ? {} : { tracker }),
      ...{ layout: flattenModel(first).layout, tp: shards[0]!.length, pp: shards.length },
      ...{ layers: stages, vpp: stages[0]!.length },
      ...(padded === undefined ? {} : { paddedVocabSize: padded }),
      consumedTrainSamples: reader?.number('consumed_train_samples') ?? 0,
      optimizer: isDistributed ? 'distributed' : hasState ? 'in shards' : 'none',
      isLora: files.some(({ tensors }) => tensors.some(({ name }) => name.includes('.lora_'))),
      ...(reader === undefined
        ? { unknown: 'the files have no args' }
        : await known(async () => architectureFromArgs(reader))),
      hasManifest: (await readdir(folder)).includes(manifestName),
    })
  } finally {
    for (const file of opened) await file.close()
  }
}

async function known(read: () => Promise<Architecture>): Promise<{ architecture?: Architecture; unknown?: string }> {
  try {
    return { architecture: await read() }
  } catch (error) {
    if (isFlowError(error)) return { unknown: error.message }
    throw error
  }
}

function argsOf(file: TorchFile): ReadonlyMap<string, PickleValue> | undefined {
  const args = dictEntries(file.value)?.get('args')
  return typeof args === 'object' && args !== null && 'type' in args && args.type === 'namespace'
    ? args.fields
    : undefined
}

function layersIn(chunk: ReadonlyMap<string, PickleValue>): number {
  return new Set([...chunk.keys()].flatMap(key => /\blayers\.(\d+)\./.exec(key)?.[1] ?? [])).size
}

async function safetensorsFile(path: string, file: string): Promise<InspectedFile> {
  const opened = await openSafetensors(path)
  await opened.close()
  const tensors = [...opened.tensors.values()].map(({ name, dtype, shape, byteLength }) => ({
    name,
    dtype,
    shape,
    byteLength,
  }))
  return { file, byteLength: (await stat(path)).size, tensors, otherTensors: 0 }
}

async function torchFile(path: string, file: string): Promise<InspectedFile> {
  const opened = await openTorchFile(path)
  await opened.close()
  const tensors = allTensors(opened.value).map(([name, tensor]) => inspected(name, tensor))
  return { file, byteLength: (await stat(path)).size, tensors, otherTensors: 0 }
}

async function inspectShard(opened: TorchFile, file: string): Promise<InspectedFile> {
  const tensors = [...shardTensors(opened)].map(([name, tensor]) => inspected(name, tensor))
  const otherTensors = allTensors(opened.value).length - tensors.length
  return { file, byteLength: (await stat(opened.path)).size, tensors, otherTensors }
}

function inspected(name: string, { dtype, shape }: PickleTensor): InspectedTensor {
  return { name, dtype, shape, byteLength: byteLengthOf({ dtype, shape }) }
}

// A value may be reached on many ways (they nest up to 200 deep): each is entered once, under its first name.
function allTensors(root: PickleValue): readonly [string, PickleTensor][] {
  const found: [string, PickleTensor][] = []
  const seen = new Set<PickleValue>()
  const visit = (value: PickleValue | undefined, name: string): void => {
    if (typeof value !== 'object' || value === null || seen.has(value)) return
    seen.add(value)
    const below = (key: PickleValue): string => `${name}${name === '' ? '' : '.'}${key}`.slice(0, 1000)
    const entries = dictEntries(value)
    if (entries !== undefined) for (const [key, it] of entries) visit(it, below(key))
    else if (Array.isArray(value)) for (const [i, it] of value.entries()) visit(it, below(i))
    else if ('type' in value && value.type === 'tensor') found.push([name, value])
    else if ('type' in value && value.type === 'tuple') for (const [i, it] of value.items.entries()) visit(it, below(i))
  }
  visit(root, '')
  return found
}

function inspection(
  facts: Record<string, unknown> & Pick<Inspection, 'kind' | 'files' | 'path' | 'hasManifest'>,
): Inspection {
  const tensorBytes = facts.files.flatMap(file => file.tensors).reduce((sum, { byteLength }) => sum + byteLength, 0)
  const whole = { ...facts, tensorBytes, toString: () => describeInspection(whole) } as Inspection
  return whole
}
