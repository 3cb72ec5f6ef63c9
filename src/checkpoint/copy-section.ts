import { loadCrc32 } from '../formats/fast-crc32.ts'
import { type FilePlace, writePlace } from '../formats/file-place.ts'
import { type Dtype, dtypeBytes, type TensorSource } from '../formats/tensor.ts'
import { fillShards, type Scratch } from './block-copy.ts'
import type { ShardSection } from './shard-sections.ts'

/**
 * Writes a section of a weight into its place in each rank's file. Gives the CRC-32s of what was written, in the order
 * of `section.shards`, computed block by block before each is written.
 */
export async function copySection(
  { section, dtype, places }: { section: ShardSection; dtype: Dtype; places: readonly FilePlace[] },
  source: Pick<TensorSource, 'tensors' | 'readRows'>,
  options: {
    scratch: Scratch
    throwIfCancelled: () => void
    advance: (bytes: number) => void
  },
): Promise<readonly number[]> {
  const crc32 = loadCrc32()
  const shards = shardSums(section, dtype)
  await fillShards(section, source, {
    ...options,
    dtype,
    sink: async (rank, bytes) => {
      const shard = shards.get(rank)!
      shard.crc = crc32(bytes, shard.crc)
      await writePlace(places[rank]!, shard.at, bytes)
      shard.at += bytes.length
      options.advance(bytes.length)
    },
  })
  return Array.from(shards.values(), ({ crc }) => crc)
}

/** What is written of a rank's shard. */
export interface ShardSum {
  /** Byte of the shard at which the next ones go. */
  at: number
  crc: number
}

/** Where a section begins in each rank's shard, in the order of `section.shards`, with nothing summed yet. */
export function shardSums({ shards }: ShardSection, dtype: Dtype): Map<number, ShardSum> {
  return new Map(
    shards.map(({ rank, rectangles: [first] }) => [
      rank,
      { at: first!.shardRow * first!.columns * dtypeBytes[dtype], crc: 0 },
    ]),
  )
}

/** Bytes of a section in the shard of its n-th member. */
export function sectionBytes({ shards }: ShardSection, member: number, dtype: Dtype): number {
  return shards[member]!.rectangles.reduce(
    (sum, { rows, columns, copies = 1 }) => sum + rows * columns * copies * dtypeBytes[dtype],
    0,
  )
}
