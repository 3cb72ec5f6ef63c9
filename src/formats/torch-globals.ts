import { torchNames } from './pickle.ts'
import type {
  PickleObject,
  PickleOrderedDict,
  PickleStorage,
  PickleTensor,
  PickleTuple,
  PickleValue,
} from './pickle-value.ts'
import { type Dtype, dtypeBytes } from './tensor.ts'
import type { CallContext, PickleGlobal } from './unpickle.ts'

const dtypes = Object.entries(torchNames) as [Dtype, { dtype: string; storage: string }][]
const maxAxes = 64

/**
 * What a Megatron checkpoint's pickle may name, and nothing else: `args` and state dicts (2.7, 2.8 of the toolchain's
 * contract), PyTorch's tensors, and what `rng_state` and the optimizer of a training checkpoint hold (NumPy arrays).
 * Classes whose instances no reader uses stay inert objects.
 */
const inert: ReadonlySet<string> = new Set([
  'megatron.core.enums ModelType',
  'megatron.core.transformer.enums AttnBackend',
  'numpy ndarray',
  'numpy dtype',
  'numpy.core.multiarray _reconstruct',
  'numpy.core.multiarray scalar',
  'numpy._core.multiarray _reconstruct',
  'numpy._core.multiarray scalar',
  'torch Size',
  'torch Tensor',
  'torch device',
  '__builtin__ set',
  'builtins set',
])

/** The allow-list of `torch.save` files: what `module` and `name` stand for, or undefined when they are not on it. */
export function torchGlobal(module: string, name: string): PickleGlobal | undefined {
  const key = `${module} ${name}`
  if (key === 'collections OrderedDict') return { kind: 'call', call: orderedDict }
  if (key === 'argparse Namespace') return { kind: 'call', call: () => ({ type: 'namespace', fields: new Map() }) }
  if (key === 'torch._utils _rebuild_tensor_v2')
    return { kind: 'call', call: rebuildTensor, argument: { type: 'object', of: key, args: [] } }
  if (key === 'torch._tensor _rebuild_from_type_v2') return { kind: 'call', call: rebuildFromType }
  if (key === 'torch._utils _rebuild_parameter') return { kind: 'call', call: args => args[0] ?? null }
  if (key === '_codecs encode') return { kind: 'call', call: encodeText }
  if (module === 'torch') {
    for (const [dtype, names] of dtypes) {
      if (names.dtype === name) return { kind: 'value', value: { type: 'dtype', dtype } }
      if (names.storage === name) return { kind: 'value', value: { type: 'storage-type', dtype } }
    }
  }
  if (!inert.has(key)) return undefined
  // NumPy names a class as an argument (`_reconstruct(ndarray, …)`): as a value it is an object without arguments.
  if (key === 'numpy ndarray' || key === 'torch Tensor')
    return { kind: 'value', value: { type: 'object', of: key, args: [] } }
  return { kind: 'call', call: args => ({ type: 'object', of: key, args }) }
}

function orderedDict(args: readonly PickleValue[], { refuse, spend, checkKey }: CallContext): PickleOrderedDict {
  const entries = new Map<PickleValue, PickleValue>()
  const pairs = args[0] ?? []
  if (!Array.isArray(pairs)) return refuse('a list of pairs', 'something else')
  spend(2 * pairs.length)
  for (const pair of pairs as readonly PickleValue[]) {
    const [key, value] = itemsOf(pair) ?? (Array.isArray(pair) ? pair : [])
    if (key === undefined || value === undefined) return refuse('a pair of key and value', 'something else')
    checkKey(key)
    entries.set(key, value)
  }
  return { type: 'ordered-dict', entries }
}

// torch._utils._rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks, metadata)
function rebuildTensor(args: readonly PickleValue[], { refuse }: CallContext): PickleTensor {
  const storage = args[0]
  if (!isStorage(storage)) return refuse('a storage', 'something else')
  const start = args[1]
  const shape = sizes(args[2])
  const stride = sizes(args[3])
  if (!isSize(start) || shape === undefined || stride?.length !== shape.length) {
    return refuse('a tensor of up to 64 axes with a stride for each', 'other arguments')
  }
  const last = shape.includes(0) ? -1 : shape.reduce((sum, size, axis) => sum + (size - 1) * stride[axis]!, start)
  if (!(last < storage.length)) {
    return refuse(
      `a [${shape}] tensor inside its storage of ${storage.length} elements`,
      `one that reaches element ${last}`,
    )
  }
  const count = shape.reduce((a, b) => a * b, 1)
  if (!(count <= storage.length)) {
    return refuse(`at most the ${storage.length} elements of the storage`, `a [${shape}] tensor`)
  }
  return {
    type: 'tensor',
    dtype: storage.dtype,
    shape,
    stride,
    offset: storage.offset + start * dtypeBytes[storage.dtype],
  }
}

// torch._tensor._rebuild_from_type_v2(function, type, arguments, attributes): a tensor with attributes of its own, as
// Megatron's float32 weights have them (`tensor_model_parallel`, …). No reader needs the attributes.
function rebuildFromType(args: readonly PickleValue[], context: CallContext): PickleTensor {
  const [made, type] = args.slice(0, 2).map(arg => (isObject(arg) ? arg.of : undefined))
  const items = itemsOf(args[2])
  if (made === 'torch._utils _rebuild_tensor_v2' && type === 'torch Tensor' && items !== undefined)
    return rebuildTensor(items, context)
  return context.refuse('a torch.Tensor with attributes', 'something else')
}

// Protocol 2 writes bytes as text in which every character is one byte.
function encodeText(args: readonly PickleValue[], { refuse, spend }: CallContext): PickleValue {
  const [text, encoding] = args
  if (typeof text !== 'string' || encoding !== 'latin1') return refuse("text to encode as 'latin1'", 'something else')
  spend(text.length)
  const bytes = Uint8Array.from(Buffer.from(text, 'latin1'))
  if (Buffer.from(bytes).toString('latin1') !== text) return refuse('text of bytes', 'other characters')
  return bytes
}

function isObject(value: PickleValue | undefined): value is PickleObject {
  return typeof value === 'object' && value !== null && 'type' in value && value.type === 'object'
}

function isStorage(value: PickleValue | undefined): value is PickleStorage {
  return typeof value === 'object' && value !== null && 'type' in value && value.type === 'storage'
}

/** Items of a tuple, or undefined for anything else. */
export function itemsOf(value: PickleValue | undefined): readonly PickleValue[] | undefined {
  const isTuple = typeof value === 'object' && value !== null && 'type' in value && value.type === 'tuple'
  return isTuple ? (value as PickleTuple).items : undefined
}

function sizes(value: PickleValue | undefined): readonly number[] | undefined {
  const items = itemsOf(value)
  return items !== undefined && items.length <= maxAxes && items.every(isSize)
    ? (items as readonly number[])
    : undefined
}

/** True for a whole number from 0 that a file offset can be. */
export function isSize(value: PickleValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}
