import { isFlowError } from '../errors.ts'
import { dictEntries, type PickleTensor } from '../formats/pickle-value.ts'
import type { TorchFile } from '../formats/torch-file.ts'
import { flattenModel } from './model-state.ts'

/** The weights of a Megatron shard by their names in a manifest; none when it holds no model. */
export function shardTensors(file: TorchFile): ReadonlyMap<string, PickleTensor> {
  const tensors = new Map<string, PickleTensor>()
  const isSingle = dictEntries(file.value)?.has('model') === true
  for (const [chunk, entries] of chunksOf(file).entries()) {
    for (const [key, value] of entries) {
      if (typeof value !== 'object' || value === null || !('type' in value) || value.type !== 'tensor') continue
      tensors.set(`${isSingle ? 'model' : `model${chunk}`}.${key}`, value)
    }
  }
  return tensors
}

function chunksOf(file: TorchFile): ReturnType<typeof flattenModel>['chunks'] {
  try {
    return flattenModel(file).chunks
  } catch (error) {
    if (isFlowError(error)) return []
    throw error
  }
}
