import { parentPort } from 'node:worker_threads'
import { loadCrc32 } from '../formats/fast-crc32.ts'
import { writePlaceSync } from '../formats/file-place.ts'
import type { StoredPiece } from '../formats/row-reader.ts'
import { sentError } from '../sent-error.ts'
import { type Block, blockRoom, emptyScratch, sectionBlocks, storedBytes } from './block-copy.ts'
import type { CopyReply, CopyTask } from './copy-pool.ts'
import { type ShardSum, shardSums } from './copy-section.ts'
import { gatherRowsSync } from './gather-rows.ts'

/**
 * A thread that copies sections of weights, one after another, reading and writing by itself. Small functions that wait
 * for nothing: V8 compiles them in a fraction of the time that `copySection` takes it, in each thread.
 */
const port = parentPort!
const scratch = emptyScratch()
const crc32 = loadCrc32()
port.on('message', (task: CopyTask) => {
  let reply: CopyReply
  try {
    reply = { crcs: copyTask(task) }
  } catch (error) {
    reply = { failed: sentError(error) }
  }
  port.postMessage(reply)
})

function copyTask(task: CopyTask): readonly number[] {
  const tensors = new Map(task.tensors.map(tensor => [tensor.name, tensor]))
  const shards = shardSums(task.section, task.dtype)
  for (const block of sectionBlocks(task.section, tensors)) {
    const bytes = readBlock(block, tensors.get(block.tensor.name)!.pieces)
    writeBlock(bytes, block, { ...task, shards })
  }
  return Array.from(shards.values(), ({ crc }) => crc)
}

function readBlock({ tensor, start, end, length }: Block, pieces: readonly StoredPiece[]): Uint8Array {
  const out = blockRoom(scratch, length)
  gatherRowsSync({ tensor, pieces, start, end, out }, scratch.gathered)
  return out
}

function writeBlock(
  bytes: Uint8Array,
  { tensor, cuts }: Block,
  { dtype, places, shards }: Pick<CopyTask, 'dtype' | 'places'> & { shards: ReadonlyMap<number, ShardSum> },
): void {
  for (const cut of cuts) {
    const stored = storedBytes(bytes, cut, { tensor, dtype, scratch })
    const shard = shards.get(cut.rank)!
    for (let copy = 0; copy < (cut.copies ?? 1); copy++) {
      shard.crc = crc32(stored, shard.crc)
      writePlaceSync(places[cut.rank]!, shard.at, stored)
      shard.at += stored.length
    }
  }
}
