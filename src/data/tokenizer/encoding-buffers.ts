/** What the parts of an encoder work on together: the text going in, the ids coming out. Grown, never shrunk. */
export interface EncodingBuffers {
  /** UTF-16 code units of the text that is being encoded. */
  units: Uint16Array
  /** Ids so far; the first `length` count. */
  ids: Int32Array
  length: number
}

/** Appends the ids of one piece of text, the units from `start` to `end` of the buffers, to the buffers' ids. */
export type PieceEncoder = (start: number, end: number) => void

export function createBuffers(): EncodingBuffers {
  return { units: new Uint16Array(1 << 12), ids: new Int32Array(1 << 12), length: 0 }
}

/** Makes room for `more` ids. */
export function reserveIds(buffers: EncodingBuffers, more: number): void {
  const needed = buffers.length + more
  if (needed <= buffers.ids.length) return
  const grown = new Int32Array(2 * needed)
  grown.set(buffers.ids)
  buffers.ids = grown
}

/** Code point of the surrogate pair at `at`. */
export function pairAt(units: Uint16Array, at: number): number {
  return 0x10000 + (((units[at] as number) & 0x3ff) << 10) + ((units[at + 1] as number) & 0x3ff)
}

/** Whether the two units from `at` on are a surrogate pair. */
export function isPair(units: Uint16Array, at: number): boolean {
  return ((units[at] as number) & 0xfc00) === 0xd800 && ((units[at + 1] as number) & 0xfc00) === 0xdc00
}
