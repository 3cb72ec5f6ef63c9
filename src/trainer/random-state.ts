/** NumPy's legacy random generator: the same seed gives the same numbers as `numpy.random.RandomState(seed)`. */
export interface RandomState {
  /** The next 32 random bits, as an unsigned integer. */
  uint32(): number
  /** A number in [0, 1) with 53 random bits (`random_sample`). */
  random(): number
  /** Shuffles in place (`shuffle` of a one-dimensional array); consumes one draw or more per element. */
  shuffle(values: Int32Array | Uint32Array): void
}

const stateLength = 624
const shift = 397

/**
 * The Mersenne Twister (MT19937) seeded by one number, as NumPy's legacy seeding does.
 *
 * `seed` is an integer from 0 to 2^32 - 1. Megatron orders its data with it.
 * Source: Matsumoto and Nishimura, mt19937ar.c; numpy/random/mtrand.pyx, `shuffle` and `random_interval`.
 */
export function randomState(seed: number): RandomState {
  const state = seededState(seed)
  let position = stateLength

  function uint32(): number {
    if (position === stateLength) {
      twist(state)
      position = 0
    }
    let y = state[position++] as number
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    return (y ^ (y >>> 18)) >>> 0
  }

  /** A whole number from 0 to `max` inclusive: draws masked to `max`'s bits until one fits. */
  function interval(max: number): number {
    const mask = 0xffffffff >>> Math.clz32(max)
    for (;;) {
      const value = (uint32() & mask) >>> 0
      if (value <= max) return value
    }
  }

  return {
    uint32,
    random() {
      const high = uint32() >>> 5
      const low = uint32() >>> 6
      return (high * 67108864 + low) / 9007199254740992
    },
    shuffle(values) {
      for (let i = values.length - 1; i > 0; i--) {
        const j = interval(i)
        const moved = values[i] as number
        values[i] = values[j] as number
        values[j] = moved
      }
    },
  }
}

function seededState(seed: number): Uint32Array {
  const state = new Uint32Array(stateLength)
  state[0] = seed
  for (let i = 1; i < stateLength; i++) {
    const previous = state[i - 1] as number
    state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i
  }
  return state
}

function twist(state: Uint32Array): void {
  for (let i = 0; i < stateLength; i++) {
    const y = ((state[i] as number) & 0x80000000) | ((state[(i + 1) % stateLength] as number) & 0x7fffffff)
    const odd = y & 1 ? 0x9908b0df : 0
    state[i] = (state[(i + shift) % stateLength] as number) ^ (y >>> 1) ^ odd
  }
}
