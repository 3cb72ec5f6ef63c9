/** Polynomial of CRC-32, the coefficient of x⁰ in the highest bit. */
const polynomial = 0xedb88320

/**
 * The CRC-32 of bytes whose first part has `crc` and whose last `byteLength` bytes have `lastCrc`, without any of them.
 * Source: zlib 1.2.12, crc32.c, `crc32_combine`: the first CRC times x^(8·byteLength), modulo the polynomial.
 */
export function crc32Combine(crc: number, lastCrc: number, byteLength: number): number {
  let shifted = crc
  let factor = 1 << 23
  for (let rest = byteLength; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) shifted = multiply(factor, shifted)
    factor = multiply(factor, factor)
  }
  return (shifted ^ lastCrc) >>> 0
}

function multiply(a: number, b: number): number {
  let product = 0
  let power = b
  for (let bit = 31; bit >= 0; bit--) {
    if ((a >>> bit) & 1) product ^= power
    power = power & 1 ? (power >>> 1) ^ polynomial : power >>> 1
  }
  return product
}
