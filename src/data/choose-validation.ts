import { InputError } from '../errors.ts'

/**
 * How many of `total` documents are set aside: a share below 1, or a number.
 * @throws InputError when that leaves nothing on either side.
 */
export function validationCount(total: number, wanted: number): number {
  const count = wanted < 1 ? Math.round(total * wanted) : wanted
  if (count >= 1 && count < total) return count
  throw new InputError(
    `validation is ${wanted}, which of ${total} documents sets ${count} aside and leaves ${total - count} to train on.`,
    { field: 'validation', hint: 'Choose a share or a number that leaves some on either side.' },
  )
}

/**
 * `count` of the numbers below `total`, the same ones for the same seed: a 1 at each of them. Memory is 9 bytes a number.
 */
export function chooseDocuments(total: number, { count, seed }: { count: number; seed: number }): Uint8Array {
  const isChosen = new Uint8Array(total)
  if (count === 0) return isChosen
  const hashes = new Uint32Array(total)
  for (let i = 0; i < total; i++) hashes[i] = hash(i, seed)
  const limit = hashes.slice().sort()[count - 1] as number
  let left = count
  for (let i = 0; i < total; i++) {
    if ((hashes[i] as number) >= limit) continue
    isChosen[i] = 1
    left--
  }
  for (let i = 0; left > 0 && i < total; i++) {
    if (hashes[i] !== limit) continue
    isChosen[i] = 1
    left--
  }
  return isChosen
}

/** 32 well mixed bits of a number and a seed. Source: MurmurHash3, `fmix32`. */
function hash(value: number, seed: number): number {
  return mix(mix(value ^ Math.imul(seed | 0, 0x9e3779b1)) + Math.floor(value / 2 ** 32) + seed)
}

function mix(value: number): number {
  let h = value | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
