// Lines of JSON objects to the ids of one of their columns.
import { at, byteHere, hasEscape, readString, skipBlanks, skipString, skipValue, startAt, take } from './json'
import { bytesAt, idsLeft, lengthsAt, out, push, rewind, unitsAt } from './region'
import { after, afterCount, before, beforeCount } from './tables'
import { encodeText } from './text'

/** Rows that were encoded since `startRows`. */
export let rows: i32 = 0

let textEnd: usize = 0

export function startRows(): void {
  rows = 0
}

/** Adds a row that the host encoded, -1 for an empty text; returns where its ids go, or 0 when there is no room. */
export function addHostRow(length: i32): usize {
  if (length > idsLeft()) return 0
  const ids = out
  addRow(length)
  if (length > 0) rewind(ids + (<usize>length << 2))
  return ids
}

/**
 * Encodes lines from byte `from` on, to `to`, which a newline ends; returns where it stopped: at `to`, or before a line
 * that is left to the host. Notes the number of ids of each row, -1 for an empty text. `key` and `end` are the column's
 * name in UTF-8, behind the lines, and an id for the end of each text, or -1.
 */
export function encodeLines(from: i32, to: i32, keyLength: i32, end: i32): i32 {
  const key = bytesAt + to + 1
  const stop = bytesAt + to
  let line = bytesAt + from
  while (line < stop) {
    startAt(line)
    skipBlanks()
    if (take(0x0a)) {
      line = at
      continue
    }
    if (!readColumn(key, keyLength)) break
    const next = at
    const first = out
    if (textEnd == unitsAt) {
      addRow(-1)
      line = next
      continue
    }
    pushAll(before, beforeCount)
    if (!encodeText(unitsAt, textEnd)) {
      rewind(first)
      break
    }
    pushAll(after, afterCount)
    if (end >= 0) push(end)
    addRow(<i32>((out - first) >> 2))
    line = next
  }
  return <i32>(line - bytesAt)
}

function addRow(length: i32): void {
  store<i32>(lengthsAt + (<usize>rows << 2), length)
  rows++
}

function pushAll(ids: usize, count: i32): void {
  for (let i = 0; i < count; i++) push(load<i32>(ids + (<usize>i << 2)))
}

/** Reads the units of the column's text from an object and passes over the line; false when that is not plain to do. */
function readColumn(key: usize, keyLength: i32): bool {
  textEnd = 0
  if (!take(0x7b)) return false
  do {
    skipBlanks()
    if (!take(0x22)) return false
    const name = at
    if (!skipString() || hasEscape) return false
    const isWanted = <i32>(at - 1 - name) == keyLength && memory.compare(name, key, keyLength) == 0
    skipBlanks()
    if (!take(0x3a)) return false
    skipBlanks()
    if (isWanted) {
      // Of two columns of one name the last counts.
      if (textEnd != 0 || !take(0x22)) return false
      textEnd = readString(unitsAt)
      if (textEnd == 0) return false
    } else if (!skipValue(0)) return false
    skipBlanks()
  } while (take(0x2c))
  if (textEnd == 0 || !take(0x7d)) return false
  skipBlanks()
  return byteHere() == 0x0a && take(0x0a)
}
