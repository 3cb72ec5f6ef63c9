import {
  dictEntries,
  type NewTensor,
  type PickleTensor,
  type PickleValue,
  pickleDict,
} from '../formats/pickle-value.ts'
import { masters, type OptimizerState } from './open-optimizer.ts'
import { parameterGroups } from './parameter-groups.ts'
import type { MegatronLayout, StageWeight } from './stage-weights.ts'

/**
 * The `optimizer` (and `opt_param_scheduler`) of one rank's file, in the form that `openOptimizer` reads.
 * `tensorOf` gives the tensor of a kind beside a weight, `constant` makes one with known bytes.
 */
export function optimizerContent(
  state: OptimizerState,
  options: {
    readonly weights: readonly StageWeight[]
    readonly layout: MegatronLayout
    readonly tensorOf: (weight: StageWeight, kind: string) => NewTensor
    readonly constant: (tensor: NewTensor, bytes: Uint8Array) => void
  },
): readonly (readonly [string, PickleValue])[] {
  const { tensorOf } = options
  // A tensor with a storage of its own wherever it stands.
  const fresh = (value: PickleValue): PickleValue => {
    if (isTensor(value)) {
      const tensor: NewTensor = { type: 'new-tensor', dtype: value.dtype, shape: value.shape }
      options.constant(tensor, state.small.get(value)!)
      return tensor
    }
    const entries = dictEntries(value)
    return entries === undefined ? value : new Map([...entries].map(([key, below]) => [key, fresh(below)]))
  }
  const groups = parameterGroups(options.weights, options.layout)
  const kinds = [...state.tensors.keys()].filter(kind => kind !== masters)
  const perParameter = new Map<number, PickleValue>()
  const paramGroups = groups.map(({ decays, weights }) => {
    const params = weights.map(weight => {
      const id = perParameter.size
      perParameter.set(
        id,
        pickleDict([
          ...[...state.notes].map(([key, value]) => [key, fresh(value)] as const),
          ...kinds.map(kind => [kind, tensorOf(weight, kind)] as const),
        ]),
      )
      return id
    })
    return new Map([
      ...(fresh(state.settings.get(decays)!) as ReadonlyMap<PickleValue, PickleValue>),
      ['params', params],
    ])
  })
  const isEmpty = kinds.length === 0 && state.notes.size === 0
  const inner = pickleDict([
    ['state', isEmpty ? pickleDict([]) : (perParameter as ReadonlyMap<PickleValue, PickleValue>)],
    ['param_groups', paramGroups],
  ])
  const optimizer = !state.tensors.has(masters)
    ? inner
    : pickleDict([
        ['optimizer', inner],
        ...(state.gradScaler === undefined ? [] : [['grad_scaler', fresh(state.gradScaler)] as const]),
        ['fp32_from_fp16_params', groups.map(({ weights }) => weights.map(weight => tensorOf(weight, masters)))],
      ])
  return [
    ['optimizer', optimizer],
    ...(state.scheduler === undefined ? [] : [['opt_param_scheduler', fresh(state.scheduler)] as const]),
  ]
}

function isTensor(value: PickleValue): value is PickleTensor {
  return typeof value === 'object' && value !== null && 'type' in value && value.type === 'tensor'
}
