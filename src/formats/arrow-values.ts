import { isUtf8 } from 'node:buffer'
import type { ArrowColumn } from './arrow-schema.ts'

/** Some rows of a column. */
export interface ArrowRange {
  readonly from: number
  readonly count: number
}

/** The body of a record batch. */
export interface ArrowBody {
  read(start: number, length: number): Promise<Buffer>
  /** Says that so many bytes are about to be held in memory. @throws RangeError when they are too many. */
  hold(bytes: number): void
}

/**
 * Values of some rows of a column, read from their own bytes alone, however long the column is.
 * Text that is not UTF-8 is given as its bytes. Source: Apache Arrow, Columnar.rst. @throws RangeError when lengths do not fit together.
 */
export async function readArrowValues(column: ArrowColumn, range: ArrowRange, body: ArrowBody): Promise<unknown[]> {
  const { type, name } = column.field
  const { from, count } = range
  if (from + count > column.length) throw new RangeError(`rows up to ${from + count} of ${column.length}`)
  body.hold(valueBytes * count)
  const values = new Array<unknown>(count).fill(null)
  if (count === 0 || type.kind === 'null') return values
  const isValid = column.nullCount === 0 ? () => true : await readBits(column, { index: 0, ...range }, body)
  const fill = (value: (i: number) => unknown) => {
    for (let i = 0; i < count; i++) if (isValid(i)) values[i] = value(i)
  }
  switch (type.kind) {
    case 'bool': {
      const isTrue = await readBits(column, { index: 1, ...range }, body)
      fill(isTrue)
      return values
    }
    case 'int':
    case 'float': {
      const bytes = await readBuffer(column, { index: 1, from, count, bits: type.bits }, body)
      const width = type.bits / 8
      const at = type.kind === 'float' ? readFloat(bytes, width) : readInteger(bytes, width, type.isSigned)
      fill(i => at(i * width))
      return values
    }
    case 'text': {
      const offsets = await readOffsets(column, { ...range, bytes: type.offsetBytes }, body)
      const first = offsets[0] ?? 0
      const bytes = await readBuffer(
        column,
        { index: 2, from: first, count: (offsets[count] ?? 0) - first, bits: 8 },
        body,
      )
      fill(i => {
        const [start, stop] = [(offsets[i] ?? 0) - first, (offsets[i + 1] ?? 0) - first]
        const text = bytes.toString('utf8', start, stop)
        if (!text.includes('\ufffd') || isUtf8(bytes.subarray(start, stop))) return text
        return Uint8Array.prototype.slice.call(bytes, start, stop)
      })
      return values
    }
    case 'list': {
      const offsets = await readOffsets(column, { ...range, bytes: type.offsetBytes }, body)
      const first = offsets[0] ?? 0
      const [child] = column.children
      if (!child) throw new RangeError(`a list without elements in column ${JSON.stringify(name)}`)
      const elements = await readArrowValues(child, { from: first, count: (offsets[count] ?? 0) - first }, body)
      fill(i => elements.slice((offsets[i] ?? 0) - first, (offsets[i + 1] ?? 0) - first))
      return values
    }
    case 'struct': {
      const parts: { name: string; values: unknown[] }[] = []
      for (const child of column.children) {
        parts.push({ name: child.field.name, values: await readArrowValues(child, range, body) })
      }
      fill(i => Object.fromEntries(parts.map(part => [part.name, part.values[i]])))
      return values
    }
    case 'unread':
    case 'unknown':
      throw new RangeError(`column ${JSON.stringify(name)} of type ${type.name}`)
  }
}

/** What a value takes, roughly, besides its text. */
const valueBytes = 16

async function readBuffer(
  { field, buffers }: ArrowColumn,
  { index, from, count, bits }: { index: number; from: number; count: number; bits: number },
  body: ArrowBody,
): Promise<Buffer> {
  const { start, length } = buffers[index] ?? { start: 0, length: 0 }
  const begin = Math.floor((from * bits) / 8)
  const end = Math.ceil(((from + count) * bits) / 8)
  if (end > length) throw new RangeError(`${length} bytes for ${end} of column ${JSON.stringify(field.name)}`)
  body.hold(end - begin)
  return body.read(start + begin, end - begin)
}

async function readBits(column: ArrowColumn, range: ArrowRange & { index: number }, body: ArrowBody) {
  const bytes = await readBuffer(column, { ...range, bits: 1 }, body)
  const shift = range.from % 8
  return (i: number) => (((bytes[(i + shift) >> 3] ?? 0) >> ((i + shift) & 7)) & 1) === 1
}

/** One more than there are rows; each is checked to be no less than the one before. */
async function readOffsets(column: ArrowColumn, range: ArrowRange & { bytes: 4 | 8 }, body: ArrowBody) {
  const { from, count, bytes: width } = range
  const bytes = await readBuffer(column, { index: 1, from, count: count + 1, bits: 8 * width }, body)
  const offsets = new Float64Array(count + 1)
  for (let i = 0; i <= count; i++) {
    const value = width === 4 ? bytes.readInt32LE(4 * i) : Number(bytes.readBigInt64LE(8 * i))
    const least = i === 0 ? 0 : (offsets[i - 1] ?? 0)
    if (!(value >= least && value <= Number.MAX_SAFE_INTEGER)) {
      throw new RangeError(`offset ${value} after ${least} in column ${JSON.stringify(column.field.name)}`)
    }
    offsets[i] = value
  }
  return offsets
}

function readFloat(bytes: Buffer, width: number): (at: number) => number {
  return width === 4 ? at => bytes.readFloatLE(at) : at => bytes.readDoubleLE(at)
}

/** Integers beyond 2^53 are bigints. */
function readInteger(bytes: Buffer, width: number, isSigned: boolean): (at: number) => number | bigint {
  if (width < 8) return isSigned ? at => bytes.readIntLE(at, width) : at => bytes.readUIntLE(at, width)
  return at => {
    const value = isSigned ? bytes.readBigInt64LE(at) : bytes.readBigUInt64LE(at)
    return Number.isSafeInteger(Number(value)) ? Number(value) : value
  }
}
