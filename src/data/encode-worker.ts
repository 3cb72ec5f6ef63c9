import { parentPort, workerData } from 'node:worker_threads'
import { sentError } from '../sent-error.ts'
import { type CorpusEncoder, createCorpusEncoder, type EncodeSettings } from './corpus-encoder.ts'
import { type EncodeReply, type EncodeStart, type EncodeTask, tasksAhead } from './encode-pool.ts'
import { roomsOf } from './encode-rows.ts'
import { lineRoomBytes, type RangeLines, readLineRange } from './json-line-ranges.ts'

/** A thread that encodes rows, one task after another. It is told first which tokenizer to use, and says what that is like. */
const port = parentPort!
let encoder: Promise<CorpusEncoder>
let before: Promise<void> = Promise.resolve()
/** Used in turns: memory that is new to the process costs more than reading into it. */
const lineRooms = Array.from({ length: tasksAhead }, () => Buffer.allocUnsafeSlow(lineRoomBytes))
let ranges = 0
port.on('message', (message: EncodeStart | EncodeTask) => {
  if ('image' in message) return start(message)
  // What comes next is read while the task before it is carried out.
  const lines = 'range' in message ? readLineRange(message.range, lineRooms[ranges++ % tasksAhead]) : undefined
  lines?.catch(() => {})
  before = before.then(() => carryOut(message, lines))
})

function start({ image }: EncodeStart): void {
  encoder = createCorpusEncoder(workerData as EncodeSettings, image)
  encoder.then(
    ({ facts }) => port.postMessage({ facts } satisfies EncodeReply),
    error => port.postMessage({ failed: sentError(error) }),
  )
}

async function carryOut(
  { index, jsonKeys, rooms, ...what }: EncodeTask,
  lines: Promise<RangeLines> | undefined,
): Promise<void> {
  try {
    const { encodeRange, encodeBatch } = await encoder
    const block =
      'range' in what
        ? encodeRange(what.range, await lines!, { jsonKeys, rooms })
        : encodeBatch({ ...what.rows, locate: nowhere }, { jsonKeys, rooms })
    port.postMessage({ index, block } satisfies EncodeReply, roomsOf(block))
  } catch (error) {
    port.postMessage({ index, failed: sentError(error) })
  }
}

/** Whoever read the rows knows where they stand, and says it where one is wrong. */
function nowhere() {
  return { place: 'some row' }
}
