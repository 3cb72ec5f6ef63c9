/** Makes arrays of zeros that threads can look at together: what is made once and then only read is not copied. */
export interface SharedArrays {
  ints(length: number): Int32Array
  /** Code units. */
  units(length: number): Uint16Array
  bytes(length: number): Uint8Array
}

/** Each in memory of its own. */
export const sharedArrays: SharedArrays = {
  ints: length => new Int32Array(new SharedArrayBuffer(4 * length)),
  units: length => new Uint16Array(new SharedArrayBuffer(2 * length)),
  bytes: length => new Uint8Array(new SharedArrayBuffer(length)),
}
