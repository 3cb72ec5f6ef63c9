/**
 * Puts samples into bins of `capacity` tokens: each bin takes the longest sample that still fits, until none does.
 * Yields the samples of each bin by number; those of no token are left out. Memory is 8 bytes a sample.
 *
 * Source of the order, also among samples of one length (the last comes first): ModelLink, processor_utils.py,
 * `greedy_knapsack`; data_handler.py, `_sft_pack_serialize_to_disk`.
 */
export function* packSamples(lengths: Int32Array, capacity: number): Generator<readonly number[]> {
  const stops = new Float64Array(capacity + 2)
  for (const length of lengths) stops[length + 1] = (stops[length + 1] ?? 0) + 1
  for (let length = 1; length < stops.length; length++) stops[length] = at(stops, length) + at(stops, length - 1)
  // Samples by length; those of one length end, for now, at `tops[length]`.
  const samples = new Uint32Array(lengths.length)
  const tops = stops.slice(0, capacity + 1)
  for (let sample = 0; sample < lengths.length; sample++) {
    const length = at(lengths, sample)
    samples[at(tops, length)] = sample
    tops[length] = at(tops, length) + 1
  }
  const bottoms = stops.slice(0, capacity + 1)
  // The longest length up to each that may have samples left; an entry only ever gets smaller.
  const below = Int32Array.from({ length: capacity + 1 }, (_, length) => length)
  const longestUpTo = (length: number) => {
    let found = length
    while (found > 0 && at(tops, found) === at(bottoms, found)) found = Math.min(found - 1, at(below, found - 1))
    for (let i = length; i > found; ) {
      const next = Math.min(i - 1, at(below, i))
      below[i] = found
      i = next
    }
    return found
  }
  for (;;) {
    const bin: number[] = []
    let room = capacity
    for (let length = longestUpTo(room); length > 0; length = longestUpTo(room)) {
      tops[length] = at(tops, length) - 1
      bin.push(at(samples, at(tops, length)))
      room -= length
    }
    if (bin.length === 0) return
    yield bin
  }
}

function at(values: Float64Array | Int32Array | Uint32Array, index: number): number {
  return values[index] as number
}
