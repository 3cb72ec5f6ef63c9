import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import { crc32Combine } from '../../src/formats/crc32-combine.ts'

test.each([0, 1, 2, 3, 64, 4095, 65_536, 1_000_003])(
  'the CRC-32 of two parts, the last of %d bytes, is that of all bytes',
  length => {
    const bytes = Buffer.alloc(1000 + length, 'a CRC-32 divides by a polynomial')
    const [first, last] = [bytes.subarray(0, 1000), bytes.subarray(1000)]
    expect(crc32Combine(crc32(first), crc32(last), length)).toBe(crc32(bytes))
  },
)

test('the last part may be longer than 4 GiB', () => {
  // Of n zeros after a part: n/2 zeros, twice. 2^33 + 2 bytes do not fit 32 bits.
  const zeros = 2 ** 33 + 2
  const after = (crc: number, count: number) => crc32Combine(crc, 0, count)
  expect(after(0xcbf43926, zeros)).toBe(after(after(0xcbf43926, zeros / 2), zeros / 2))
  expect(after(0xcbf43926, 4)).toBe(after(after(after(0xcbf43926, 1), 1), 2))
})
