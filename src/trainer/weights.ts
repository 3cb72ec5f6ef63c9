import { FormatError, InputError } from '../errors.ts'
import { convertFloats } from '../formats/float-dtype.ts'
import { dtypeBytes, type TensorInfo, type TensorSource } from '../formats/tensor.ts'
import type { Parameter } from './parameter.ts'
import { randomState } from './random-state.ts'

/** Bytes that are read or written at a time (a row, where that is longer). */
const pieceBytes = 8 << 20

/** An array of numbers in the engine's memory and what it is called in a file. */
export interface NamedValues {
  readonly name: string
  readonly shape: readonly number[]
  readonly values: Float32Array
}

/**
 * Fills every one of `targets` from the tensor of its name, as float32; each tensor must be wanted, each target met.
 *
 * Memory: 8 MiB or one row. `from` names the source in messages.
 * @throws FormatError naming the tensor that is missing, left over or of another shape.
 */
export async function loadValues(
  source: TensorSource,
  targets: readonly NamedValues[],
  { from, signal }: { readonly from: string; readonly signal?: AbortSignal | undefined },
): Promise<void> {
  const names = new Set(targets.map(target => target.name))
  for (const name of source.tensors.keys()) {
    if (!names.has(name))
      throw new FormatError({ file: from, expected: 'weights of this model alone', found: `also ${name}` })
  }
  for (const { name, shape, values } of targets) {
    const tensor = source.tensors.get(name)
    const found = tensor ? `[${tensor.shape.join(', ')}]` : 'no such weight'
    const expected = `[${shape.join(', ')}]`
    if (!tensor || found !== expected) throw new FormatError({ file: from, expected: `${name} of ${expected}`, found })
    const bytes = byteView(values)
    const rows = shape[0] ?? 1
    const rowValues = values.length / rows
    const step = Math.max(1, Math.floor(pieceBytes / (rowValues * 4)))
    for (let row = 0; row < rows; row += step) {
      signal?.throwIfAborted()
      const end = Math.min(rows, row + step)
      const piece = await source.readRows(name, row, end)
      if (piece.length !== (end - row) * rowValues * dtypeBytes[tensor.dtype]) {
        throw new FormatError({ file: from, expected: `${end - row} rows of ${name}`, found: `${piece.length} bytes` })
      }
      convertFloats(piece, { from: tensor.dtype, to: 'F32' }, bytes.subarray(row * rowValues * 4, end * rowValues * 4))
    }
  }
}

/** Weights in the engine's memory as float32 tensors to read; closing does nothing. */
export function valuesSource(named: readonly NamedValues[]): TensorSource {
  const tensors = new Map<string, TensorInfo>(named.map(({ name, shape }) => [name, { name, shape, dtype: 'F32' }]))
  const values = new Map(named.map(entry => [entry.name, entry.values]))
  return {
    tensors,
    async readRows(name, start, end, into) {
      const held = values.get(name)
      const rows = tensors.get(name)?.shape[0] ?? 1
      if (!held || start < 0 || end < start || end > rows)
        throw new InputError(`No rows ${start} to ${end} of ${name}.`)
      const rowBytes = (held.length / rows) * 4
      // A copy: the memory is shared between threads, which not every reader of bytes can take.
      const bytes = byteView(held).subarray(start * rowBytes, end * rowBytes)
      const out = into?.subarray(0, bytes.length) ?? new Uint8Array(bytes.length)
      out.set(bytes)
      return out
    },
    async close() {},
  }
}

/** The weights of `parameters` by their own names. */
export function weightValues(parameters: readonly Parameter[]): NamedValues[] {
  return parameters.map(({ name, shape, weight }) => ({ name, shape, values: weight }))
}

/** Whether a parameter is one of the adapters rather than of the model. */
export function isAdapter({ name }: Parameter): boolean {
  return /\.lora_[AB]\.weight$/.test(name)
}

/**
 * Gives adapters their first values: A uniform in ±1/√in, B zero, so that training starts from the model itself.
 * Source: peft, lora/layer.py, `reset_lora_parameters` (kaiming_uniform_ with a = √5).
 */
export function startAdapters(parameters: readonly Parameter[], seed: number): void {
  const random = randomState(seed)
  for (const parameter of parameters.filter(isAdapter)) {
    if (parameter.name.endsWith('.lora_B.weight')) {
      parameter.weight.fill(0)
      continue
    }
    const bound = 1 / Math.sqrt(parameter.shape[1] as number)
    for (let i = 0; i < parameter.weight.length; i++) parameter.weight[i] = (2 * random.random() - 1) * bound
  }
}

/** The bytes of `values`; little-endian, as every platform is that Node runs on but s390x. */
export function byteView(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
