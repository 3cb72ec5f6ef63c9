import { type NewTensor, type PickleValue, pickleDict, pickleFloat } from '../formats/pickle-value.ts'
import type { OptimizerState } from './open-optimizer.ts'
import { optimizerContent } from './optimizer-content.ts'
import { extraStateKeys, type MegatronLayout, type ParallelSizes, type StageWeight } from './stage-weights.ts'

/** A weight in a rank's file. */
export interface ShardWeight extends StageWeight {
  /** Of which kind of the optimizer's tensors it is, when it is not the weight itself. */
  readonly state?: string
}

export interface ShardContentOptions {
  readonly parallel: ParallelSizes
  readonly layout: MegatronLayout
  readonly iteration: number
  /** Virtual stages of the rank. */
  readonly chunks: number
  /** The training's arguments. */
  readonly args: ReadonlyMap<string, PickleValue>
  readonly optimizer?: OptimizerState | undefined
  /** Default 0. */
  readonly floatingPointOperations?: PickleValue | undefined
}

/** The key of a virtual stage's weights: `model`, or `model0`, `model1`, … with virtual stages. */
export function modelName(chunk: number, { parallel }: { parallel: ParallelSizes }): string {
  return parallel.layersPerVirtualStage === undefined ? 'model' : `model${chunk}`
}

/** What one rank's file of a converted checkpoint holds; the bytes of small tensors are put into `constants`. */
export function shardContent(
  tensors: ReadonlyMap<ShardWeight, NewTensor>,
  options: ShardContentOptions & { constants: Map<NewTensor, Uint8Array> },
): PickleValue {
  const own = [...tensors].filter(([weight]) => weight.state === undefined)
  const models = Array.from({ length: options.chunks }, (_, chunk): [string, PickleValue] => [
    modelName(chunk, options),
    stateDict(new Map(own.filter(([weight]) => weight.chunk === chunk)), options.layout),
  ])
  const nameOf = ({ chunk, key }: StageWeight, kind: string): string => `${chunk} ${kind} ${key}`
  const beside = new Map([...tensors].map(([weight, tensor]) => [nameOf(weight, weight.state ?? ''), tensor]))
  const optimizer =
    options.optimizer &&
    optimizerContent(options.optimizer, {
      weights: own.map(([weight]) => weight),
      layout: options.layout,
      tensorOf: (weight, kind) => beside.get(nameOf(weight, kind))!,
      constant: (tensor, bytes) => options.constants.set(tensor, bytes),
    })
  return pickleDict([
    ['args', { type: 'namespace', fields: options.args }],
    ['checkpoint_version', pickleFloat(3)],
    ['iteration', options.iteration],
    ...models,
    ...(optimizer ?? []),
    ['num_floating_point_operations_so_far', options.floatingPointOperations ?? 0],
  ])
}

// Megatron-Core: one flat OrderedDict. Legacy: nested by the names before the first dot that has an OrderedDict below.
function stateDict(tensors: ReadonlyMap<ShardWeight, NewTensor>, layout: MegatronLayout): PickleValue {
  const extra = extraStateKeys([...tensors.keys()])
  const entries = new Map<string, NewTensor | null>()
  for (const [weight, tensor] of tensors) entries.set(weight.key, tensor)
  for (const key of extra) entries.set(key, null)
  if (layout === 'mcore') return { type: 'ordered-dict', entries }
  const under = (prefix: string): PickleValue => ({
    type: 'ordered-dict',
    entries: new Map(
      [...entries].flatMap(([key, value]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), value]] : [])),
    ),
  })
  const has = (prefix: string): boolean => [...entries.keys()].some(key => key.startsWith(prefix))
  return pickleDict([
    [
      'language_model',
      pickleDict([
        ...(has('embedding.')
          ? [['embedding', pickleDict([['word_embeddings', under('embedding.word_embeddings.')]])] as const]
          : []),
        ['encoder', under('encoder.')],
        ...(has('output_layer.') ? [['output_layer', under('output_layer.')] as const] : []),
      ]),
    ],
    ...(has('word_embeddings_for_head.')
      ? [['word_embeddings_for_head', under('word_embeddings_for_head.')] as const]
      : []),
  ])
}
