import { UnsupportedError } from '../errors.ts'
import { type Dtype, dtypeBytes } from './tensor.ts'

/** The floating-point types that weights are stored in. */
export type FloatDtype = 'BF16' | 'F16' | 'F32'

const f32 = new Float32Array(1)
const u32 = new Uint32Array(f32.buffer)

/** True for the types that weights may have; everything else (quantised weights, say) is not converted. */
export function isFloatDtype(dtype: Dtype): dtype is FloatDtype {
  return dtype === 'BF16' || dtype === 'F16' || dtype === 'F32'
}

/**
 * Writes the little-endian elements of `bytes` as `to` into the start of `into` and gives that part of it.
 *
 * Narrowing rounds to nearest, ties to even, as PyTorch does; a type to itself copies, so every bit stays.
 * @throws UnsupportedError for types that are not floating point.
 */
export function convertFloats(bytes: Uint8Array, types: { from: Dtype; to: Dtype }, into: Uint8Array): Uint8Array {
  const { from, to } = types
  const count = bytes.byteLength / dtypeBytes[from]
  const out = into.subarray(0, count * dtypeBytes[to])
  if (from === to) {
    out.set(bytes)
    return out
  }
  if (!isFloatDtype(from) || !isFloatDtype(to)) {
    throw new UnsupportedError(`Weights of type ${from} cannot become ${to}; BF16, F16 and F32 can.`)
  }
  const source = elements(bytes, from)
  const target = elements(out, to)
  if (from === 'F32')
    for (let i = 0; i < count; i++) target[i] = to === 'BF16' ? bf16Bits(source[i]!) : f16Bits(source[i]!)
  else if (to === 'F32') for (let i = 0; i < count; i++) target[i] = widenBits(source[i]!, from)
  else if (to === 'BF16') for (let i = 0; i < count; i++) target[i] = bf16Bits(widenBits(source[i]!, from))
  else for (let i = 0; i < count; i++) target[i] = f16Bits(widenBits(source[i]!, from))
  if (target.buffer !== out.buffer) out.set(new Uint8Array(target.buffer))
  return out
}

/** The little-endian elements of `bytes` as numbers, exactly. */
export function floatValues(bytes: Uint8Array, dtype: FloatDtype): Float32Array {
  const values = new Float32Array(bytes.byteLength / dtypeBytes[dtype])
  convertFloats(bytes, { from: dtype, to: 'F32' }, new Uint8Array(values.buffer))
  return values
}

/** Writes `values` to `out` as little-endian `dtype`, each rounded once, to nearest and ties to even. */
export function storeFloats(values: Float64Array, dtype: FloatDtype, out: Uint8Array): void {
  const target = new DataView(out.buffer, out.byteOffset, out.byteLength)
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    if (dtype === 'F32') target.setFloat32(4 * i, value, true)
    else {
      const bits = oddBits(value)
      target.setUint16(2 * i, dtype === 'BF16' ? bf16Bits(bits) : f16Bits(bits), true)
    }
  }
}

// Every platform of Node.js that trains models is little-endian; typed arrays there are the file's own bytes.
function elements(bytes: Uint8Array, dtype: FloatDtype): Uint16Array | Uint32Array {
  const size = dtypeBytes[dtype]
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes)
  const count = byteLength / size
  return size === 4 ? new Uint32Array(buffer, byteOffset, count) : new Uint16Array(buffer, byteOffset, count)
}

/** Bits of a float32 that a second rounding, to fewer bits, treats exactly as it would `value` (rounding to odd). */
function oddBits(value: number): number {
  f32[0] = value
  const nearest = f32[0]!
  const bits = u32[0]!
  if (nearest === value || !Number.isFinite(nearest)) return bits
  return (Math.abs(nearest) > Math.abs(value) ? bits - 1 : bits) | 1
}

function widenBits(half: number, from: 'BF16' | 'F16'): number {
  if (from === 'BF16') return half << 16
  const sign = (half & 0x8000) << 16
  const exponent = (half >> 10) & 0x1f
  const fraction = half & 0x3ff
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13)
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (fraction << 13)
  f32[0] = fraction * 2 ** -24
  return sign | u32[0]!
}

// NaN becomes the quiet NaN of c10/util/BFloat16.h, round_to_nearest_even; PyTorch's vector code has other bits for it.
function bf16Bits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

function f16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff)
  if (magnitude >= 0x477ff000) return sign | 0x7c00
  if (magnitude >= 0x38800000) return sign | ((magnitude + 0xfff + ((magnitude >>> 13) & 1) - 0x38000000) >>> 13)
  // Below 2^-14 one step is 2^-24, the step of a float32 in [0.5, 1): adding 0.5 makes the FPU round there.
  u32[0] = magnitude
  f32[0] = f32[0]! + 0.5
  return sign | (u32[0]! - 0x3f000000)
}
