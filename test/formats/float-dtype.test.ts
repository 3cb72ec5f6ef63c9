import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { UnsupportedError } from '../../src/errors.ts'
import { convertFloats, storeFloats } from '../../src/formats/float-dtype.ts'

const golden = JSON.parse(readFileSync(new URL('golden/float-rounding.json', import.meta.url), 'utf8')) as Record<
  'f32' | 'bf16' | 'f16' | 'f16Widened',
  number[]
>
const wide = (bits: number[]): Uint8Array => new Uint8Array(Uint32Array.from(bits).buffer)
const narrow = (bits: number[]): Uint8Array => new Uint8Array(Uint16Array.from(bits).buffer)
const room = (count: number): Uint8Array => new Uint8Array(8 * count)

test.each([
  ['BF16', golden.bf16, 0x7f80],
  ['F16', golden.f16, 0x7c00],
] as const)('float32 narrows to %s as in PyTorch, for edge cases and 400 random numbers', (to, expected, infinity) => {
  const out = convertFloats(wide(golden.f32), { from: 'F32', to }, room(golden.f32.length))
  // Which bits a NaN has depends on PyTorch's build and the processor; that it is one does not.
  const known = (bits: number): number | string => ((bits & 0x7fff) > infinity ? 'NaN' : bits)
  expect([...new Uint16Array(out.slice().buffer)].map(known)).toEqual(expected.map(known))
})

test('F16 widens to float32 as in PyTorch', () => {
  const out = convertFloats(narrow(golden.f16), { from: 'F16', to: 'F32' }, room(golden.f16.length))
  expect([...new Uint32Array(out.slice().buffer)]).toEqual(golden.f16Widened)
})

test('every finite BF16 number survives F32 and back, and every F16 number F32 and back', () => {
  for (const [from, exponent] of [
    ['BF16', 0x7f80],
    ['F16', 0x7c00],
  ] as const) {
    const all = narrow(Array.from({ length: 65536 }, (_, bits) => bits).filter(bits => (bits & exponent) !== exponent))
    const widened = convertFloats(all, { from, to: 'F32' }, room(all.length)).slice()
    expect(convertFloats(widened, { from: 'F32', to: from }, room(all.length)).slice()).toEqual(all)
  }
})

test('a type to itself copies every bit, also those of NaN', () => {
  const bytes = Uint8Array.of(1, 0, 0x80, 0x7f)
  expect(convertFloats(bytes, { from: 'F32', to: 'F32' }, room(1)).slice()).toEqual(bytes)
})

test('bytes that are not aligned to their type are converted too', () => {
  const bytes = new Uint8Array(9)
  bytes.set(wide([0x3f800000, 0x40000000]), 1)
  const out = convertFloats(bytes.subarray(1), { from: 'F32', to: 'BF16' }, room(2).subarray(1))
  expect([...out]).toEqual([0x80, 0x3f, 0x00, 0x40])
})

// 1 + 2^-8 is midway between BF16 1 and 1 + 2^-7; 1 + 2^-11 between F16 1 and 1 + 2^-10; ties go to even.
test.each([
  ['BF16', 1 + 2 ** -8, 0x3f80],
  ['BF16', 1 + 2 ** -8 + 2 ** -50, 0x3f81],
  ['BF16', 1 + 3 * 2 ** -8 - 2 ** -50, 0x3f81],
  ['F16', 1 + 2 ** -11, 0x3c00],
  ['F16', 1 + 2 ** -11 + 2 ** -50, 0x3c01],
  ['F16', -(1 + 3 * 2 ** -11 - 2 ** -50), 0xbc01],
  ['F16', 2 ** -25 + 2 ** -60, 0x0001],
  ['F16', 1e300, 0x7c00],
] as const)('float64 is stored as %s with a single rounding: %d', (dtype, value, bits) => {
  const out = new Uint8Array(2)
  storeFloats(Float64Array.of(value), dtype, out)
  expect(out[0]! | (out[1]! << 8)).toBe(bits)
})

test('a Buffer that is part of a larger one is converted at its place', () => {
  const part = Buffer.concat([Buffer.alloc(3), wide([0x3f800000, 0x40000000])]).subarray(3)
  expect([...convertFloats(part, { from: 'F32', to: 'BF16' }, room(2))]).toEqual([0x80, 0x3f, 0x00, 0x40])
})

test('whole numbers do not become weights', () => {
  expect(() => convertFloats(new Uint8Array(8), { from: 'I64', to: 'BF16' }, room(1))).toThrow(UnsupportedError)
})
