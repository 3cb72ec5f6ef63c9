import { InputError } from '../errors.ts'
import { byteWriter } from './byte-writer.ts'
import type { NewTensor, PickleValue } from './pickle-value.ts'
import type { Dtype } from './tensor.ts'

/** PyTorch's names of a type: `torch.{dtype}` and `torch.{storage}`. Source: torch/__init__.py. */
export const torchNames: Readonly<Record<Dtype, { readonly dtype: string; readonly storage: string }>> = {
  F64: { dtype: 'float64', storage: 'DoubleStorage' },
  F32: { dtype: 'float32', storage: 'FloatStorage' },
  F16: { dtype: 'float16', storage: 'HalfStorage' },
  BF16: { dtype: 'bfloat16', storage: 'BFloat16Storage' },
  I64: { dtype: 'int64', storage: 'LongStorage' },
  I32: { dtype: 'int32', storage: 'IntStorage' },
  I16: { dtype: 'int16', storage: 'ShortStorage' },
  I8: { dtype: 'int8', storage: 'CharStorage' },
  U8: { dtype: 'uint8', storage: 'ByteStorage' },
  BOOL: { dtype: 'bool', storage: 'BoolStorage' },
}

/**
 * The protocol 2 pickle of `value` as `torch.save` writes it, and the tensors in it, in the order of their storage
 * keys `0`, `1`, …: each new tensor becomes a contiguous CPU tensor with a storage of its own.
 *
 * @throws InputError for values that cannot be written: tensors of another file, bytes, numbers beyond int64.
 */
export function pickle(value: PickleValue): { readonly bytes: Uint8Array; readonly tensors: readonly NewTensor[] } {
  const out = byteWriter()
  const tensors: NewTensor[] = []
  const remembered = new Map<string, number>()
  const put = (...parts: (number | string)[]): void => {
    for (const part of parts) typeof part === 'number' ? out.byte(part) : out.ascii(part)
  }
  put(0x80, 2)
  const global = (name: string): void => {
    const key = remembered.get(name)
    if (key === undefined) {
      put('c', name.replace(' ', '\n'), '\n', 'q', remembered.size)
      remembered.set(name, remembered.size)
    } else put('h', key)
  }
  const string = (text: string): void => {
    put('X')
    out.sizedText(text)
  }
  const integer = (number: number | bigint): void => {
    if (number >= 0 && number < 0x100) put('K', Number(number))
    else if (number >= 0 && number < 0x10000) put('M', Number(number) & 0xff, Number(number) >> 8)
    else if (number >= -(2 ** 31) && number < 2 ** 31) {
      put('J')
      out.uint32(Number(number) >>> 0)
    } else if (number >= -(2n ** 63n) && number < 2n ** 63n) {
      put(0x8a, 8)
      out.int64(BigInt(number))
    } else throw new InputError(`The number ${number} does not fit 64 bits and cannot be pickled.`)
  }
  const float = (number: number): void => {
    put('G')
    out.doubleBigEndian(number)
  }
  const tuple = (write: () => void): void => {
    put('(')
    write()
    put('t')
  }
  const fill = (entries: Iterable<readonly [PickleValue, PickleValue]>): void => {
    put('(')
    for (const [key, item] of entries) {
      encode(key)
      encode(item)
    }
    put('u')
  }
  // torch.serialization.persistent_id and torch._utils._rebuild_tensor_v2(storage, offset, size, stride, grad, hooks)
  const tensor = ({ dtype, shape }: NewTensor): void => {
    const strides = shape.map((_, axis) => product(shape.slice(axis + 1)))
    global('torch._utils _rebuild_tensor_v2')
    tuple(() => {
      tuple(() => {
        string('storage')
        global(`torch ${torchNames[dtype].storage}`)
        string(String(tensors.length))
        string('cpu')
        integer(product(shape))
      })
      put('Q', 'K', 0)
      tuple(() => shape.forEach(integer))
      tuple(() => strides.forEach(integer))
      put(0x89)
      global('collections OrderedDict')
      put(')', 'R')
    })
    put('R')
  }
  const encode = (item: PickleValue): void => {
    if (item === null) put('N')
    else if (typeof item === 'boolean') put(item ? 0x88 : 0x89)
    else if (typeof item === 'number') Number.isSafeInteger(item) ? integer(item) : float(item)
    else if (typeof item === 'bigint') integer(item)
    else if (typeof item === 'string') string(item)
    else if (item instanceof Map) {
      put('}')
      fill(item)
    } else if (Array.isArray(item)) {
      put(']', '(')
      for (const element of item) encode(element)
      put('e')
    } else if ('type' in item) encodeRecord(item)
    else throw new InputError('Bytes cannot be pickled with protocol 2.')
  }
  const encodeRecord = (item: Extract<PickleValue, { type: string }>): void => {
    switch (item.type) {
      case 'float':
        float(item.value)
        break
      case 'tuple':
        tuple(() => item.items.forEach(encode))
        break
      case 'ordered-dict':
        global('collections OrderedDict')
        put(')', 'R')
        fill(item.entries)
        break
      case 'namespace':
        global('argparse Namespace')
        put(')', 0x81, '}')
        fill(item.fields)
        put('b')
        break
      case 'dtype':
        global(`torch ${torchNames[item.dtype].dtype}`)
        break
      case 'object':
        global(item.of)
        tuple(() => item.args.forEach(encode))
        put('R')
        if (item.state !== undefined) {
          encode(item.state)
          put('b')
        }
        break
      case 'new-tensor':
        tensor(item)
        tensors.push(item)
        break
      default:
        throw new InputError(`A ${item.type} that was read from a file cannot be pickled again.`)
    }
  }
  encode(value)
  put('.')
  return { bytes: out.bytes(), tensors }
}

function product(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a * b, 1)
}
