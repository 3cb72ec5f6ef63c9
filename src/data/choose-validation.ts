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

/** `count` of the numbers below `total`, the same ones for the same seed, in growing order. Memory: 8 bytes a number. */
export function chooseDocuments(total: number, { count, seed }: { count: number; seed: number }): Set<number> {
  const hashes = Uint32Array.from({ length: total }, (_, i) => hash(i, seed))
  const limit = hashes.slice().sort()[count - 1] ?? 0
  const chosen = new Set<number>()
  for (const [i, value] of hashes.entries()) if (value < limit) chosen.add(i)
  for (let i = 0; chosen.size < count && i < total; i++) if (hashes[i] === limit) chosen.add(i)
  return chosen
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
