import type { Crc32 } from '../formats/fast-crc32.ts'
import type { FilePlace, PlaceAccess } from '../formats/file-place.ts'
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
    write: PlaceAccess
    crc32: Crc32
    throwIfCancelled?: () => void
    advance?: (bytes: number) => void
  },
): Promise<readonly number[]> {
  const written = new Map(
    section.shards.map(({ rank, rectangles: [first] }) => [
      rank,
      { at: first!.shardRow * first!.columns * dtypeBytes[dtype], crc: 0 },
    ]),
  )
  await fillShards(section, source, {
    ...options,
    dtype,
    sink: async (rank, bytes) => {
      const shard = written.get(rank)!
      shard.crc = options.crc32(bytes, shard.crc)
      await options.write(places[rank]!, shard.at, bytes)
      shard.at += bytes.length
      options.advance?.(bytes.length)
    },
  })
  return section.shards.map(({ rank }) => written.get(rank)!.crc)
}

/** Bytes of a section in the shard of its n-th member. */
export function sectionBytes({ shards }: ShardSection, member: number, dtype: Dtype): number {
  return shards[member]!.rectangles.reduce(
    (sum, { rows, columns, copies = 1 }) => sum + rows * columns * copies * dtypeBytes[dtype],
    0,
  )
}
