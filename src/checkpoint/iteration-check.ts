import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FormatError, isFlowError, UnsupportedError } from '../errors.ts'
import { dictEntries, numberValue, type PickleTensor, type PickleValue } from '../formats/pickle-value.ts'
import { openTorchFile, type TorchFile } from '../formats/torch-file.ts'
import type { Architecture } from '../models/architecture.ts'
import type { Finding } from './finding.ts'
import { crcText, type ManifestTensor, readManifest } from './manifest.ts'
import { type CheckpointIteration, iterationFolder } from './megatron-folder.ts'
import { type MegatronShards, openMegatronShards } from './open-megatron.ts'
import { type RankGrid, readRankGrid } from './rank-grid.ts'
import { shardTensors } from './shard-tensors.ts'

/**
 * What is wrong with one iteration of a Megatron checkpoint, from names and headers alone: milliseconds whatever its
 * size. Without a finding of severity `error` it is complete.
 */
export async function checkIteration(
  dir: string,
  options: { iteration: CheckpointIteration; architecture?: Architecture | undefined },
): Promise<readonly Finding[]> {
  const folder = join(dir, iterationFolder(options.iteration))
  const grid = await readRankGrid(folder)
  const findings = [...grid.findings]
  const files: TorchFile[] = []
  try {
    for (const { path } of grid.shards) {
      const file = await opened(path, findings)
      if (file !== undefined) files.push(file)
    }
    findings.push(...checkArgs(files, { grid, iteration: options.iteration }), ...checkOptimizer(files, grid, folder))
    const vouched = await checkManifest(folder, files)
    findings.push(...(vouched ?? []))
    const isWhole = grid.shards.length === grid.tp * grid.pp && files.length === grid.shards.length
    if (isWhole && files.length > 0)
      findings.push(...(await checkWeights(dir, { ...options, isVouched: vouched?.length === 0 })))
    else if (grid.shards.length === 0)
      findings.push({
        ...{ code: 'weights-wrong', severity: 'error', path: folder, offset: undefined },
        ...{ expected: 'mp_rank_* folders', found: 'none', advice: 'Convert or train again, or remove the folder.' },
      })
    return findings
  } finally {
    for (const file of files) await file.close()
  }
}

const again = 'Restore the file from a copy, or convert or train again.'

async function opened(path: string, findings: Finding[]): Promise<TorchFile | undefined> {
  try {
    return await openTorchFile(path)
  } catch (error) {
    findings.push(damage(error, { path, code: 'file-damaged' }))
    return undefined
  }
}

/** A finding from what an opening threw; errors of the system pass. */
export function damage(error: unknown, about: { path: string; code: 'file-damaged' | 'weights-wrong' }): Finding {
  if (error instanceof FormatError) {
    const { offset, expected, found } = error
    return { ...about, severity: 'error', path: error.file, offset, expected, found, advice: error.hint ?? again }
  }
  if (!isFlowError(error)) throw error
  const isNew = error instanceof UnsupportedError
  const advice = isNew ? 'Check it with the program that wrote it.' : again
  return { code: 'not-understood', severity: 'error', path: about.path, found: error.message, advice }
}

function topOf(file: TorchFile): ReadonlyMap<PickleValue, PickleValue> {
  return dictEntries(file.value) ?? new Map()
}

function argsOf(file: TorchFile): ReadonlyMap<string, PickleValue> {
  const args = topOf(file).get('args')
  return typeof args === 'object' && args !== null && 'type' in args && args.type === 'namespace'
    ? args.fields
    : new Map<string, PickleValue>()
}

/** Fields in which the files of one checkpoint never differ. */
const sharedFields = [
  ...['tensor_model_parallel_size', 'pipeline_model_parallel_size', 'num_layers', 'hidden_size', 'ffn_hidden_size'],
  ...['num_attention_heads', 'num_query_groups', 'kv_channels', 'padded_vocab_size', 'add_qkv_bias', 'num_layer_list'],
  ...['num_layers_per_virtual_pipeline_stage', 'untie_embeddings_and_output_weights', 'params_dtype', 'lora_r'],
]

function checkArgs(
  files: readonly TorchFile[],
  { grid, iteration }: { grid: RankGrid; iteration: CheckpointIteration },
): readonly Finding[] {
  const text = (value: PickleValue | undefined): string =>
    value === undefined
      ? 'nothing'
      : JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? `${item}` : item)).slice(0, 60)
  const findings: Finding[] = []
  const differ = (path: string, field: string, expected: string, found: string): void => {
    const advice = 'The file is of another checkpoint: restore the right one, or convert again into a new folder.'
    findings.push({ code: 'args-differ', severity: 'error', path, field, expected, found, advice })
  }
  const expected = new Map<string, PickleValue | undefined>([
    ['tensor_model_parallel_size', grid.tp],
    ['pipeline_model_parallel_size', grid.pp],
  ])
  const first = files[0]
  for (const file of files) {
    const args = argsOf(file)
    for (const field of sharedFields) {
      const value = args.get(field)
      if (!expected.has(field)) expected.set(field, value)
      if (value === undefined || text(value) === text(expected.get(field))) continue
      differ(file.path, field, `args.${field} ${text(expected.get(field))}`, text(value))
    }
    const stored = numberValue(topOf(file).get('iteration'))
    if (iteration !== 'release' && stored !== undefined && stored !== iteration)
      differ(file.path, 'iteration', `iteration ${iteration}, as its folder says`, `${stored}`)
    if (file !== first && text(topOf(file).get('iteration')) !== text(topOf(first!).get('iteration')))
      differ(
        file.path,
        'iteration',
        `iteration ${text(topOf(first!).get('iteration'))}, as in ${first!.path}`,
        `${stored}`,
      )
  }
  return findings
}

function checkOptimizer(files: readonly TorchFile[], grid: RankGrid, folder: string): readonly Finding[] {
  const findings: Finding[] = []
  const advice = 'Restore it, or go on without the optimizer (--no-load-optim, or --finetune).'
  const missing = (path: string, expected: string): void => {
    findings.push({ code: 'optimizer-missing', severity: 'error', path, expected, found: 'none', advice })
  }
  const withState = files.filter(file => topOf(file).has('optimizer'))
  if (withState.length > 0) {
    for (const file of files)
      if (!withState.includes(file)) missing(file.path, `an optimizer, as in ${withState[0]!.path}`)
  }
  const ranks = grid.tp * grid.pp
  const isWanted = files.some(
    file => argsOf(file).get('use_distributed_optimizer') === true && argsOf(file).get('no_save_optim') !== true,
  )
  const isConverted = files.every(file => (numberValue(argsOf(file).get('consumed_train_samples') ?? 0) ?? 0) === 0)
  const { distributedOptimizers: there } = grid
  if (there < ranks && (there > 0 || (isWanted && !isConverted && withState.length === 0)))
    missing(folder, `a distrib_optim.pt for each of ${ranks} ranks; ${there} are there`)
  return findings
}

// Undefined when there is no manifest.
async function checkManifest(folder: string, files: readonly TorchFile[]): Promise<readonly Finding[] | undefined> {
  const manifest = await readManifest(folder).catch((error: unknown) =>
    damage(error, { path: folder, code: 'file-damaged' }),
  )
  if (manifest === undefined) return undefined
  if ('code' in manifest) return [manifest]
  const findings: Finding[] = []
  const differs = (path: string, tensor: string | undefined, expected: string, found: string): void => {
    findings.push({ code: 'manifest-differs', severity: 'error', path, tensor, expected, found, advice: again })
  }
  for (const { file, byteLength, tensors } of manifest.files) {
    const path = join(folder, file)
    const size = await stat(path).then(
      it => it.size,
      () => undefined,
    )
    if (size === undefined) differs(path, undefined, 'a file, as the manifest says', 'none')
    else if (size !== byteLength) differs(path, undefined, `${byteLength} bytes, as the manifest says`, `${size}`)
    const open = files.find(it => it.path === path)
    if (open === undefined) continue
    const held = heldTensors(open)
    for (const tensor of tensors) {
      const found = held.get(tensor.name) ?? 'none'
      const expected = tensorText(tensor)
      if (found !== expected) differs(path, tensor.name, `'${tensor.name}' ${expected}, as the manifest says`, found)
    }
  }
  for (const { path } of files) {
    if (manifest.files.some(({ file }) => join(folder, file) === path)) continue
    differs(path, undefined, 'only files of the manifest', 'one that it does not name')
  }
  return findings
}

// Type, shape and CRC-32 of each tensor of a shard as its directory gives them.
function heldTensors(file: TorchFile): ReadonlyMap<string, string> {
  const tensors = shardTensors(file)
  const crc = (tensor: PickleTensor): string => crcText(file.storedCrc(tensor) ?? 0)
  return new Map([...tensors].map(([name, tensor]) => [name, tensorText({ ...tensor, crc32: crc(tensor) })]))
}

function tensorText({ dtype, shape, crc32 }: Pick<ManifestTensor, 'dtype' | 'shape' | 'crc32'>): string {
  return `${dtype} [${shape}] with CRC-32 ${crc32}`
}

async function checkWeights(
  dir: string,
  options: { iteration: CheckpointIteration; architecture?: Architecture | undefined; isVouched: boolean },
): Promise<readonly Finding[]> {
  let shards: MegatronShards
  try {
    shards = await openMegatronShards(dir, options)
  } catch (error) {
    return [damage(error, { path: dir, code: 'weights-wrong' })]
  }
  try {
    // What agrees with its manifest has the types that the conversion was to store.
    return [...(options.isVouched ? [] : checkDtypes(dir, shards)), ...checkCopies(shards)]
  } finally {
    await shards.close()
  }
}

function checkDtypes(dir: string, shards: MegatronShards): readonly Finding[] {
  const findings: Finding[] = []
  const mixed = (path: string, expected: string, found: string): void => {
    const advice = 'Convert again, with the dtype to store.'
    findings.push({ code: 'dtype-mixed', severity: 'warning', path, expected, found, advice })
  }
  const first = shards.weights[0]!.shards[0]!.tensor.dtype
  for (const { weight, shards: ranks } of shards.weights) {
    const other = ranks.find(({ tensor }) => tensor.dtype !== first)
    if (other === undefined) continue
    mixed(other.file.path, `${first} in '${weight.key}', as in the first weight`, other.tensor.dtype)
    break
  }
  const params = argsOf(shards.files[0]![0]!).get('params_dtype')
  const stated = typeof params === 'object' && params !== null && 'dtype' in params ? params.dtype : first
  if (stated !== first)
    mixed(join(dir, iterationFolder(shards.iteration)), `weights in ${stated}, as args.params_dtype says`, first)
  return findings
}

// Copies are compared by the CRC-32s in the directories: no weight is read.
function checkCopies(shards: MegatronShards): readonly Finding[] {
  const findings: Finding[] = []
  const embedding = shards.weights.find(({ weight }) => weight.plan.rule.at === 'first' && !weight.isCopy)
  for (const { weight, shards: ranks } of shards.weights) {
    const isReplicated = weight.plan.rule.split === 'replicated'
    if (!weight.isCopy && !isReplicated) continue
    for (const [rank, { file, tensor }] of ranks.entries()) {
      const original = weight.isCopy ? embedding?.shards[rank] : ranks[0]
      const [a, b] = [original?.file.storedCrc(original.tensor), file.storedCrc(tensor)]
      if (original === undefined || a === undefined || b === undefined || a === b) continue
      findings.push({
        ...{ code: 'copies-differ', severity: 'error', path: file.path, tensor: weight.key },
        expected: `'${weight.key}' to equal its copy in ${original.file.path} (CRC-32 ${crcText(a)})`,
        found: crcText(b),
        advice: 'The files are of different moments or checkpoints: restore them, or convert again.',
      })
    }
  }
  return findings
}
