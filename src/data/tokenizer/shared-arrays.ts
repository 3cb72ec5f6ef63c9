/** Numbers that threads can look at together: what is made once and then only read is handed over, not copied. */
export function sharedInts(length: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4 * length))
}

/** As `sharedInts`, for code units. */
export function sharedUnits(length: number): Uint16Array {
  return new Uint16Array(new SharedArrayBuffer(2 * length))
}

/** As `sharedInts`, for bytes. */
export function sharedBytes(length: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(length))
}
