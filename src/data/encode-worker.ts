import { parentPort, workerData } from 'node:worker_threads'
import { FormatError, isFlowError } from '../errors.ts'
import { createCorpusEncoder, type EncodeSettings } from './corpus-encoder.ts'
import type { EncodeReply, EncodeTask } from './encode-pool.ts'

/** A thread that encodes ranges of files, one after another. It says first what its tokenizer is like. */
const port = parentPort!
const encoder = createCorpusEncoder(workerData as EncodeSettings)
encoder.then(
  ({ facts }) => port.postMessage({ facts } satisfies EncodeReply),
  error => port.postMessage(failure(error)),
)
let before: Promise<void> = Promise.resolve()
port.on('message', (task: EncodeTask) => {
  before = before.then(() => carryOut(task))
})

async function carryOut({ index, range, jsonKeys }: EncodeTask): Promise<void> {
  try {
    const block = await (await encoder).encodeRange(range, jsonKeys)
    // Ids are a part of a longer buffer: only they are to be handed over.
    const datasets = block.datasets.map(dataset => ({ ...dataset, ids: dataset.ids.slice() }))
    port.postMessage(
      { index, block: { ...block, datasets } } satisfies EncodeReply,
      datasets.map(({ ids }) => ids.buffer),
    )
  } catch (error) {
    port.postMessage({ index, ...failure(error) })
  }
}

/** An error in a form that survives the way to another thread. */
function failure(error: unknown): Extract<EncodeReply, { failed: unknown }> {
  if (error instanceof FormatError) {
    const { file, offset, expected, found } = error
    return { failed: { kind: 'format', file, offset, expected, found } }
  }
  if (isFlowError(error)) return { failed: { kind: 'flow', code: error.code, message: error.message } }
  return { failed: { kind: 'other', error } }
}
