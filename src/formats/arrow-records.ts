import { type FileHandle, open } from 'node:fs/promises'
import { FormatError, UnsupportedError } from '../errors.ts'
import { type ArrowBatch, type ArrowField, readArrowBatch, readArrowSchema } from './arrow-schema.ts'
import { type ArrowBody, readArrowValues } from './arrow-values.ts'
import { byteField, type FlatTable, longField, rootTable, tableField } from './flatbuffer.ts'
import { type BadRows, gatherBadRows, type ReadRecordsOptions, type RecordBatch, setColumn } from './record-batch.ts'

/** What a message may hold besides its body, what one batch of rows may hold, and how many rows it has. */
const limits = { metadataBytes: 64 << 20, bytes: 128 << 20, rows: 1024 }

/** Header types of a message. Source: Apache Arrow, format/Message.fbs. */
const headers = { schema: 1, dictionaryBatch: 2, recordBatch: 3 }

/**
 * Rows of an Arrow IPC file or stream, as Hugging Face datasets and pyarrow write them. Columns of text, numbers,
 * booleans, lists and structs are read; others may be there as long as nobody asks for them.
 *
 * At most 1024 rows are read at a time, fewer when they have more than 128 MiB, however large the record batches are.
 * Text that is not UTF-8 is given as its bytes. Rows that do not fit the schema are passed over one by one, if asked to.
 * @throws FormatError when the file is damaged; UnsupportedError for compressed batches and types that are not read.
 */
export async function* readArrowRecords(file: string, options: ReadRecordsOptions = {}): AsyncGenerator<RecordBatch> {
  const handle = await open(file, 'r')
  try {
    const { size } = await handle.stat()
    let fields: readonly ArrowField[] | undefined
    let group = 0
    const bad = gatherBadRows(options)
    const messages = readMessages(handle, { file, size })
    for await (const message of messages) {
      if (message.type === headers.schema) {
        fields = damaged(file, message.start, () => readArrowSchema(message.header))
        refuseUnknown(fields, file)
      } else if (message.type === headers.recordBatch) {
        const known = fields ?? fail(file, message.start, 'a schema before the first record batch', 'none')
        const batch = damaged(file, message.start, () =>
          readArrowBatch(message.header, { fields: known, bodyLength: message.bodyLength }),
        )
        yield* readBatch(handle, { file, batch, group, message, bad, options })
        group++
      } else if (message.type !== headers.dictionaryBatch) {
        fail(file, message.start, 'a schema or a batch', `a message of type ${message.type}`)
      }
    }
    if (!fields) fail(file, size, 'an Arrow schema', 'the end of the file')
  } finally {
    await handle.close()
  }
}

interface Message {
  readonly type: number
  readonly header: FlatTable
  /** Where the message, and where its body, begins in the file. */
  readonly start: number
  readonly bodyStart: number
  readonly bodyLength: number
}

/** Messages up to the end of the stream; what follows it in the file format, its footer, only says the same again. */
async function* readMessages(
  handle: FileHandle,
  { file, size }: { file: string; size: number },
): AsyncGenerator<Message> {
  const at = async (start: number, length: number) => {
    if (start + length > size) fail(file, start, `${length} bytes of an Arrow message`, `${size - start} bytes`)
    return readBytes(handle, start, length)
  }
  const isFile = size >= 8 && (await at(0, 8)).toString('latin1', 0, 6) === 'ARROW1'
  for (let start = isFile ? 8 : 0; start < size; ) {
    const word = (await at(start, 4)).readInt32LE(0)
    // Before Arrow 0.15 there was no -1 before the length.
    const isMarked = word === -1
    const length = isMarked ? (await at(start + 4, 4)).readInt32LE(0) : word
    if (length === 0) return
    if (length < 0 || length > limits.metadataBytes) {
      fail(file, start, 'an Arrow IPC message', `one with ${length} bytes of metadata`)
    }
    const metadataStart = start + (isMarked ? 8 : 4)
    const bytes = await at(metadataStart, length)
    const message = damaged(file, start, () => {
      const table = rootTable(bytes)
      const header = tableField(table, 2)
      if (!header) throw new RangeError('a message without header')
      return { type: byteField(table, 1), header, bodyLength: longField(table, 3) }
    })
    const bodyStart = metadataStart + length
    if (message.bodyLength > size - bodyStart) {
      fail(file, bodyStart, `a body of ${message.bodyLength} bytes`, `${size - bodyStart} bytes`)
    }
    yield { ...message, start, bodyStart }
    start = bodyStart + message.bodyLength
  }
}

async function* readBatch(
  handle: FileHandle,
  from: { file: string; batch: ArrowBatch; group: number; message: Message; bad: BadRows; options: ReadRecordsOptions },
): AsyncGenerator<RecordBatch> {
  const { file, batch, group, message, bad, options } = from
  if (batch.isCompressed && batch.rows > 0) {
    throw new UnsupportedError(`${file}: record batch ${group} is compressed.`, {
      hint: 'Write the file again without compression (pyarrow: IpcWriteOptions(compression=None)).',
    })
  }
  const columns = chooseColumns(batch, { file, asked: options.columns })
  let isDamaged = false
  for (let first = 0, step = limits.rows; first < batch.rows; ) {
    options.signal?.throwIfAborted()
    const count = Math.min(step, batch.rows - first)
    const budget: Budget = { left: limits.bytes, isSpent: false }
    const body = bodyOf(handle, { start: message.bodyStart, budget })
    const records: Record<string, unknown>[] = Array.from({ length: count }, () => ({}))
    try {
      for (const column of columns) {
        const values = await readArrowValues(column, { from: first, count }, body)
        const { name } = column.field
        for (let i = 0; i < count; i++) setColumn(records[i] ?? {}, name, values[i])
      }
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause
      isDamaged ||= !budget.isSpent
      // Less at a time, down to the one row that is damaged.
      if ((budget.isSpent || options.skipBad) && count > 1) {
        step = Math.ceil(count / 2)
        continue
      }
      const rows = count === 1 ? `row ${first}` : `rows ${first} to ${first + count - 1}`
      const found = `${cause.message} in record batch ${group}, ${rows}`
      const expected = 'columns as the schema says'
      bad.add(() => new FormatError({ file, offset: message.start, expected, found, cause }))
      records.length = 0
    }
    if (isDamaged) step = Math.min(limits.rows, 2 * step)
    const start = first
    first += count
    const bytesRead = Math.floor(message.bodyStart + message.bodyLength * (first / batch.rows))
    yield {
      file,
      records,
      ...bad.take(),
      bytesRead,
      locate: index => ({ place: `record batch ${group}, row ${start + index}` }),
    }
  }
}

/** Of a type that is not known it is not known either where the columns after it lie. */
function refuseUnknown(fields: readonly ArrowField[], file: string): void {
  for (const { name, type, children } of fields) {
    if (type.kind === 'unknown') {
      throw new UnsupportedError(`${file}: column ${JSON.stringify(name)} has values of type ${type.name}.`)
    }
    refuseUnknown(children, file)
  }
}

/** The columns that are asked for; when none is there all that can be read, so that errors can name them. */
function chooseColumns(
  { columns }: ArrowBatch,
  { file, asked }: { file: string; asked: readonly string[] | undefined },
): ArrowBatch['columns'] {
  const isRead = (field: ArrowField): boolean =>
    field.type.kind !== 'unread' && field.type.kind !== 'unknown' && field.children.every(isRead)
  const wanted = columns.filter(({ field }) => asked?.includes(field.name) ?? true)
  if (wanted.length === 0) return columns.filter(({ field }) => isRead(field))
  const other = wanted.find(({ field }) => !isRead(field))?.field
  if (!other) return wanted
  const type = 'name' in other.type ? other.type.name : other.type.kind
  throw new UnsupportedError(`${file}: column ${JSON.stringify(other.name)} has values of type ${type}.`, {
    hint: 'Text, numbers, booleans, and lists and structs of them are read from Arrow files.',
  })
}

/** Reads from byte `start` of the file on; a budget is what may be held at once. */
function bodyOf(handle: FileHandle, { start, budget }: { start: number; budget: Budget }): ArrowBody {
  return {
    hold(bytes) {
      budget.left -= bytes
      if (budget.left >= 0) return
      budget.isSpent = true
      throw new RangeError(`a row of more than ${limits.bytes} bytes`)
    },
    read: (from, length) => readBytes(handle, start + from, length),
  }
}

interface Budget {
  left: number
  isSpent: boolean
}

async function readBytes(handle: FileHandle, start: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length)
  for (let done = 0; done < length; ) {
    const { bytesRead } = await handle.read(bytes, done, length - done, start + done)
    if (bytesRead === 0) throw new RangeError(`the end of the file at byte ${start + done}`)
    done += bytesRead
  }
  return bytes
}

function damaged<T>(file: string, offset: number, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    throw new FormatError({ file, offset, expected: 'an Arrow IPC message', found: cause.message, cause })
  }
}

function fail(file: string, offset: number, expected: string, found: string): never {
  throw new FormatError({ file, offset, expected, found })
}
