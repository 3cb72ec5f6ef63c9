import { stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { FormatError, UnsupportedError } from '../errors.ts'
import { convertFloats, isFloatDtype } from '../formats/float-dtype.ts'
import { dictEntries, numberValue, type PickleTensor, type PickleValue } from '../formats/pickle-value.ts'
import { dtypeBytes, type TensorSource } from '../formats/tensor.ts'
import type { TorchFile } from '../formats/torch-file.ts'
import type { MegatronShards } from './open-megatron.ts'
import { parameterGroups } from './parameter-groups.ts'
import { type ShardedWeight, shardSource } from './shard-source.ts'

/** The state of Megatron's classic optimizer, put together from all ranks. */
export interface OptimizerState {
  /** The tensors beside each weight, under the weights' Hugging Face names: `exp_avg`, `exp_avg_sq`, and `masters`. */
  readonly tensors: ReadonlyMap<string, TensorSource>
  /** What else is noted for every parameter (`step` of some optimizers); the same for all. */
  readonly notes: ReadonlyMap<string, PickleValue>
  /** Settings of parameters that decay, and of those that do not: `lr`, `step`, `betas`, … */
  readonly settings: ReadonlyMap<boolean, ReadonlyMap<PickleValue, PickleValue>>
  /** `grad_scaler`, with a dynamic loss scale only. */
  readonly gradScaler: PickleValue | undefined
  /** `opt_param_scheduler`. */
  readonly scheduler: PickleValue | undefined
  /** Bytes of the small tensors in `notes`, `settings`, `gradScaler` and `scheduler`. */
  readonly small: ReadonlyMap<PickleTensor, Uint8Array>
}

/** Name among `OptimizerState.tensors` of the float32 weights that 16-bit ones are rounded from. */
export const masters = 'masters'

/**
 * Opens the optimizer state of a checkpoint, or gives undefined when it has none. The first row of every float32
 * weight is compared with the stored weight, which it must round to: so an unknown order of parameters is found out.
 *
 * Source: Megatron-LM core_r0.6.0, core/optimizer/optimizer.py, `Float16OptimizerWithFloat16Params` and `FP32Optimizer`.
 * @throws UnsupportedError for a distributed optimizer, or a form that is not known; FormatError when ranks differ.
 */
export async function openOptimizer(shards: MegatronShards): Promise<OptimizerState | undefined> {
  const all = shards.files.flat()
  for (const { path } of all) await refuseDistributed(path)
  const found = all.filter(file => dictEntries(file.value)?.has('optimizer'))
  if (found.length === 0) return undefined
  const without = all.find(file => !found.includes(file))
  if (without !== undefined)
    throw new FormatError({ file: without.path, expected: "an 'optimizer', as other ranks have", found: 'none' })

  const places = new Map<string, Map<ShardedWeight, Place[]>>()
  const ranks: RankState[] = []
  for (const [stage, files] of shards.files.entries()) {
    const members = shards.weights.filter(({ weight }) => weight.stage === stage)
    for (const [rank, file] of files.entries()) ranks.push(readRank(file, { members, rank, shards, places }))
  }
  const small = await readSmall(ranks)
  const first = ranks[0]!
  for (const rank of ranks) checkEqual(first, rank, small)
  const tensors = new Map(
    [...places].map(([kind, byWeight]) => {
      const weights = [...byWeight].map(([{ weight }, of]): ShardedWeight => ({ weight, shards: of }))
      return [
        kind,
        shardSource(
          weights.filter(({ weight }) => !weight.isCopy),
          async () => {},
        ),
      ] as const
    }),
  )
  for (const [weight, of] of places.get(masters) ?? []) await checkRounding(weight, of)
  const settings = new Map(ranks.flatMap(rank => [...rank.settings]))
  const { notes, gradScaler, scheduler } = first
  return { tensors, notes, settings, gradScaler, scheduler, small }
}

type Place = ShardedWeight['shards'][number]

interface RankState extends Omit<OptimizerState, 'tensors' | 'small'> {
  readonly file: TorchFile
}

async function refuseDistributed(path: string): Promise<void> {
  const file = join(dirname(path), 'distrib_optim.pt')
  const isThere = await stat(file).then(
    () => true,
    () => false,
  )
  if (isThere)
    throw new UnsupportedError(`${file}: the state of a distributed optimizer is not carried to another layout.`, {
      hint: "Give optimizer: 'drop' to carry the weights alone.",
    })
}

function unknown(file: TorchFile, what: string): never {
  throw new UnsupportedError(`${file.path}: 'optimizer' ${what}, a form that is not known.`, {
    hint: "Give optimizer: 'drop' to carry the weights alone.",
  })
}

function readRank(
  file: TorchFile,
  context: {
    members: readonly ShardedWeight[]
    rank: number
    shards: MegatronShards
    places: Map<string, Map<ShardedWeight, Place[]>>
  },
): RankState {
  const { members, rank, shards, places } = context
  const top = dictEntries(file.value)!
  const outer = dictEntries(top.get('optimizer')) ?? unknown(file, 'is not a dict')
  const isWrapped = outer.has('fp32_from_fp16_params')
  const known = isWrapped ? ['optimizer', 'grad_scaler', 'fp32_from_fp16_params'] : ['state', 'param_groups']
  for (const key of outer.keys()) if (!known.includes(String(key))) unknown(file, `has '${String(key)}'`)
  const inner = isWrapped ? (dictEntries(outer.get('optimizer')) ?? unknown(file, 'has no state')) : outer
  const state = dictEntries(inner.get('state')) ?? unknown(file, 'has no state')
  const stored = listOf(inner.get('param_groups')) ?? unknown(file, 'has no parameter groups')
  const fp32 = isWrapped ? (listOf(outer.get('fp32_from_fp16_params')) ?? unknown(file, 'has no weights')) : []
  const byWeight = new Map(members.map(member => [member.weight, member]))
  const groups = parameterGroups([...byWeight.keys()], shards.layout)
  const refuse = (expected: string, found: string): never => {
    throw new FormatError({ file: file.path, expected, found })
  }
  if (stored.length !== groups.length || (isWrapped && fp32.length !== groups.length))
    refuse(`${groups.length} groups of parameters, those that decay and those that do not`, `${stored.length}`)
  const settings = new Map<boolean, ReadonlyMap<PickleValue, PickleValue>>()
  let notes: ReadonlyMap<string, PickleValue> | undefined
  for (const [g, { decays, weights }] of groups.entries()) {
    const fields = dictEntries(stored[g]) ?? unknown(file, 'has no dict for a group')
    const ids = listOf(fields.get('params')) ?? unknown(file, 'has no parameters in a group')
    const main = isWrapped ? (listOf(fp32[g]) ?? unknown(file, 'has no weights of a group')) : undefined
    const multiplier = numberValue(fields.get('wd_mult'))
    if (multiplier !== undefined && multiplier !== (decays ? 1 : 0))
      refuse(`wd_mult ${decays ? 1 : 0} of group ${g}`, `${multiplier}`)
    for (const list of main === undefined ? [ids] : [ids, main])
      if (list.length !== weights.length) refuse(`${weights.length} parameters in group ${g}`, `${list.length}`)
    for (const [i, weight] of weights.entries()) {
      const member = byWeight.get(weight)!
      const { shape } = weight.plan.shards[rank]!
      const own = new Map<string, PickleValue>()
      const entries = [...(dictEntries(state.get(ids[i]!)) ?? [])]
      if (main !== undefined) entries.push([masters, main[i]!])
      for (const [key, value] of entries) {
        if (typeof key !== 'string') unknown(file, 'has a state without a name')
        if (!isTensor(value) || value.shape.length === 0 || `${value.shape}` === '1') own.set(key, value)
        else if (`${value.shape}` === `${shape}`) {
          if (!places.has(key)) places.set(key, new Map())
          const of = places.get(key)!
          of.set(member, [...(of.get(member) ?? []), { file, tensor: value }])
        } else refuse(`${key} of '${weight.key}' with shape [${shape}]`, `[${value.shape}]`)
      }
      if (notes !== undefined && own.size !== notes.size)
        refuse(`the state of '${weight.key}' to have ${[...notes.keys()]}`, `${[...own.keys()]}`)
      notes ??= own
    }
    settings.set(decays, new Map([...fields].filter(([key]) => key !== 'params')))
  }
  for (const [kind, of] of places) {
    const missing = groups.flatMap(({ weights }) => weights).find(it => of.get(byWeight.get(it)!)?.length !== rank + 1)
    if (missing !== undefined) refuse(`${kind} of '${missing.key}'`, 'none')
  }
  const scheduler = top.get('opt_param_scheduler')
  return { file, settings, notes: notes ?? new Map(), gradScaler: outer.get('grad_scaler'), scheduler }
}

async function readSmall(ranks: readonly RankState[]): Promise<ReadonlyMap<PickleTensor, Uint8Array>> {
  const small = new Map<PickleTensor, Uint8Array>()
  const visit = async (value: PickleValue | undefined, file: TorchFile): Promise<void> => {
    if (value === undefined) return
    if (isTensor(value)) {
      const count = value.shape.reduce((a, b) => a * b, 1)
      if (count > 1) unknown(file, `has a tensor of ${count} elements that belongs to no parameter`)
      const bytes = new Uint8Array(dtypeBytes[value.dtype])
      small.set(value, await file.readRows(value, { start: 0, end: 1 }, bytes))
      return
    }
    for (const below of dictEntries(value)?.values() ?? listOf(value) ?? []) await visit(below, file)
  }
  for (const { file, notes, settings, gradScaler, scheduler } of ranks)
    for (const value of [...notes.values(), ...settings.values(), gradScaler, scheduler]) await visit(value, file)
  return small
}

// The loss scale may differ by nothing either, but its counters are written by each rank for itself.
function checkEqual(first: RankState, other: RankState, small: ReadonlyMap<PickleTensor, Uint8Array>): void {
  const plain = (value: PickleValue | undefined): unknown => {
    if (value === undefined) return undefined
    if (isTensor(value)) return small.get(value)
    const entries = dictEntries(value)
    return entries === undefined ? value : [...entries].map(([key, below]) => [key, plain(below)])
  }
  const facts = (rank: RankState) => ({
    ...{ notes: plain(rank.notes), scheduler: plain(rank.scheduler) },
    ...Object.fromEntries([...rank.settings].map(([decays, fields]) => [`settings ${decays}`, plain(fields)])),
  })
  const [a, b] = [facts(first), facts(other)] as [Record<string, unknown>, Record<string, unknown>]
  for (const key of Object.keys(b)) {
    if (!(key in a) || isDeepStrictEqual(a[key], b[key])) continue
    throw new FormatError({
      file: other.file.path,
      expected: `the optimizer's ${key.split(' ')[0]} as in ${first.file.path}`,
      found: 'others',
    })
  }
}

async function checkRounding({ weight, shards }: ShardedWeight, of: readonly Place[]): Promise<void> {
  for (const [rank, { file, tensor }] of of.entries()) {
    const stored = shards[rank]!.tensor
    const master = await file.readRows(tensor, { start: 0, end: 1 })
    const rounded = new Uint8Array((master.length / dtypeBytes[tensor.dtype]) * dtypeBytes[stored.dtype])
    if (!isFloatDtype(tensor.dtype)) unknown(file, `has weights of type ${tensor.dtype}`)
    convertFloats(master, { from: tensor.dtype, to: stored.dtype }, rounded)
    const row = await file.readRows(stored, { start: 0, end: 1 })
    if (Buffer.compare(rounded, row) === 0) continue
    throw new FormatError({
      file: file.path,
      expected: `the optimizer's float32 weight of '${weight.key}' to round to the stored one`,
      found: 'another value',
    })
  }
}

function isTensor(value: PickleValue | undefined): value is PickleTensor {
  return typeof value === 'object' && value !== null && 'type' in value && value.type === 'tensor'
}

function listOf(value: PickleValue | undefined): readonly PickleValue[] | undefined {
  if (Array.isArray(value)) return value
  const isTuple = typeof value === 'object' && value !== null && 'type' in value && value.type === 'tuple'
  return isTuple ? (value as { items: readonly PickleValue[] }).items : undefined
}
