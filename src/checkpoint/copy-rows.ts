/**
 * Copies `rows` rows of `length` bytes: the first lies at the beginning of `from` and of `to`, the next ones `fromStep`
 * and `toStep` bytes further on. Quickest, and without garbage, when both lie in the same buffer.
 */
export function copyRows(
  from: Uint8Array,
  to: Uint8Array,
  { rows, length, fromStep, toStep }: { rows: number; length: number; fromStep: number; toStep: number },
): void {
  if (from.buffer === to.buffer) {
    const all = new Uint8Array(from.buffer)
    const [start, target] = [from.byteOffset, to.byteOffset]
    for (let row = 0; row < rows; row++) {
      const at = start + row * fromStep
      all.copyWithin(target + row * toStep, at, at + length)
    }
  } else
    for (let row = 0; row < rows; row++) to.set(from.subarray(row * fromStep, row * fromStep + length), row * toStep)
}
