import { parentPort } from 'node:worker_threads'
import { loadCrc32 } from '../formats/fast-crc32.ts'
import { readPlaceSync, writePlaceSync } from '../formats/file-place.ts'
import type { RowReader } from '../formats/row-reader.ts'
import { sentError } from '../sent-error.ts'
import { emptyScratch } from './block-copy.ts'
import type { CopyReply, CopyTask } from './copy-pool.ts'
import { copySection } from './copy-section.ts'
import { rowGatherer } from './gather-rows.ts'

/** A thread that copies sections of weights, one after another, reading and writing by itself. */
const port = parentPort!
const scratch = emptyScratch()
const crc32 = loadCrc32()
const gather = rowGatherer(readPlaceSync)
let before: Promise<void> = Promise.resolve()
port.on('message', (task: CopyTask) => {
  before = before.then(() => carryOut(task))
})

async function carryOut({ tensors, ...task }: CopyTask): Promise<void> {
  const byName = new Map(tensors.map(tensor => [tensor.name, tensor]))
  const readRows: RowReader = async (name, start, end, into) => {
    const tensor = byName.get(name)!
    await gather(tensor, tensor.pieces, { start, end, out: into!, spare: scratch.gathered })
    return into!
  }
  const reply: CopyReply = await copySection(
    task,
    { tensors: byName, readRows },
    { scratch, crc32, write: writePlaceSync },
  ).then(
    crcs => ({ crcs }),
    error => ({ failed: sentError(error) }),
  )
  port.postMessage(reply)
}
