import type { Dtype } from './tensor.ts'

/**
 * What a pickle holds, as inert data: nothing in it is ever called.
 *
 * `None` is null, `int` number (bigint beyond 2^53), `str` string, `bytes` Uint8Array, `list` array, `dict` Map. A
 * `float` is a record, so that 3.0 stays apart from 3; when writing, a number that is not whole is a float too.
 */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly PickleValue[]
  | ReadonlyMap<PickleValue, PickleValue>
  | PickleFloat
  | PickleTuple
  | PickleOrderedDict
  | PickleNamespace
  | PickleDtype
  | PickleObject
  | PickleStorageType
  | PickleStorage
  | PickleTensor
  | NewTensor

export interface PickleFloat {
  readonly type: 'float'
  readonly value: number
}

export interface PickleTuple {
  readonly type: 'tuple'
  readonly items: readonly PickleValue[]
}

/** `collections.OrderedDict`; `attributes` is what PyTorch hangs on a state dict (`_metadata`). */
export interface PickleOrderedDict {
  readonly type: 'ordered-dict'
  readonly entries: ReadonlyMap<PickleValue, PickleValue>
  readonly attributes?: PickleValue
}

/** `argparse.Namespace`: Megatron's arguments by name. */
export interface PickleNamespace {
  readonly type: 'namespace'
  readonly fields: ReadonlyMap<string, PickleValue>
}

/** A `torch.dtype` such as `torch.bfloat16`. */
export interface PickleDtype {
  readonly type: 'dtype'
  readonly dtype: Dtype
}

/** An instance of an allowed class that is kept as it was written (an enum member, a NumPy array), never rebuilt. */
export interface PickleObject {
  readonly type: 'object'
  /** `module name` of the class. */
  readonly of: string
  readonly args: readonly PickleValue[]
  readonly state?: PickleValue
}

/** A `torch.FloatStorage` and its like; appears only inside the references to storages. */
export interface PickleStorageType {
  readonly type: 'storage-type'
  readonly dtype: Dtype
}

/** Where the bytes of one storage lie in the file; tensors are views of storages. */
export interface PickleStorage {
  readonly type: 'storage'
  readonly dtype: Dtype
  /** Elements. */
  readonly length: number
  /** Position of the first element in the file, in bytes. */
  readonly offset: number
}

/** A tensor in a file, not read yet. */
export interface PickleTensor {
  readonly type: 'tensor'
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** Distance between neighbours along each axis, in elements. */
  readonly stride: readonly number[]
  /** Position of its first element in the file, in bytes. */
  readonly offset: number
}

/** A tensor to be written: `writeTorchFile` makes room for it, its bytes follow later. */
export interface NewTensor {
  readonly type: 'new-tensor'
  readonly dtype: Dtype
  readonly shape: readonly number[]
}

/** A Python float, also where the number is whole. */
export function pickleFloat(value: number): PickleFloat {
  return { type: 'float', value }
}

/** A dict with string keys. */
export function pickleDict(entries: Iterable<readonly [string, PickleValue]>): ReadonlyMap<PickleValue, PickleValue> {
  return new Map(entries)
}

/** The entries of a dict or OrderedDict, or undefined for anything else. */
export function dictEntries(value: PickleValue | undefined): ReadonlyMap<PickleValue, PickleValue> | undefined {
  if (value instanceof Map) return value
  if (typeof value === 'object' && value !== null && 'type' in value && value.type === 'ordered-dict')
    return value.entries
  return undefined
}

/** The number that an int or a float is, or undefined for anything else. */
export function numberValue(value: PickleValue | undefined): number | undefined {
  if (typeof value === 'number') return value
  if (typeof value === 'object' && value !== null && 'type' in value && value.type === 'float') return value.value
  return undefined
}
