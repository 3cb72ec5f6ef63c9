import { availableParallelism } from 'node:os'
import { InputError } from '../errors.ts'
import { crc32Combine } from '../formats/crc32-combine.ts'
import type { FilePlace } from '../formats/file-place.ts'
import type { StoredPiece } from '../formats/row-reader.ts'
import { type Dtype, type TensorSource, tensorBytes } from '../formats/tensor.ts'
import { type CopyOptions, cancelled, checkCancelled, emptyScratch } from './block-copy.ts'
import { type CopyPool, type CopyTask, createCopyPool } from './copy-pool.ts'
import { copySection, sectionBytes } from './copy-section.ts'
import { earlyFlush } from './early-flush.ts'
import { inLanes } from './lanes.ts'
import { type ShardSection, shardSections } from './shard-sections.ts'
import type { Rectangle, WeightPlan } from './weight-plan.ts'

/** A weight on its way into files. */
export interface WeightCopy {
  readonly shards: WeightPlan['shards']
  readonly source: TensorSource
  /** Stored type. */
  readonly dtype: Dtype
  /** Where the shard of each rank goes. */
  readonly places: readonly FilePlace[]
}

/** Copies weights into files, on threads of its own where that pays. */
export interface Copier {
  /**
   * Copies the weights, whose files belong to nobody else until then. Gives the CRC-32 of each weight's shards.
   * `advance` is told of bytes that have been written. Several calls share the threads. After an error none
   * writes any more.
   */
  copy(weights: readonly WeightCopy[], advance: (bytes: number) => void): Promise<readonly (readonly number[])[]>
  close(): Promise<void>
}

export interface CopierOptions extends Pick<CopyOptions, 'workers' | 'flush' | 'signal'> {
  /** For the message of a CancelledError: `Writing the checkpoint DIR`. */
  readonly what: string
  readonly sources: readonly TensorSource[]
}

/** Sections that are copied at a time where there are no threads: while one waits for the disk, another is summed. */
export const copyLanes = 4

/** Parts of a folder that are made at a time: threads write into different ones, and one is finished beside the next. */
export const partsAtATime = 2

/** Elements of a section: 32 MiB in two bytes each. Enough for one message between threads. */
const sectionElements = 16 * 2 ** 20

/** Bytes from which on threads pay for their start and their memory. */
const workersFromBytes = 1e9

/**
 * Starts what copies weights; `close` it. Threads are long in starting: call it before the work is laid out. Memory: 6
 * MiB, and 20 MiB for each thread.
 */
export function createCopier(options: CopierOptions): Copier {
  const { signal, what } = options
  const threads = threadCount(options)
  const canShare = options.sources.some(({ readRows }) => readRows.pieces !== undefined)
  const pool = threads > 1 && canShare ? createCopyPool(threads) : undefined
  const onAbort = (): void => void pool?.close(cancelled(signal!, what))
  signal?.addEventListener('abort', onAbort)
  return {
    async copy(weights, advance) {
      checkCancelled(signal, what)
      const cut = weights.map(weight =>
        shardSections(weight.shards, sectionElements).map(section => ({ ...weight, section })),
      )
      const flush = options.flush === false ? undefined : earlyFlush()
      const sums = new Map<ShardSection, readonly number[]>()
      const done = ({ section, places, dtype }: SectionCopy, crcs: readonly number[]): void => {
        sums.set(section, crcs)
        for (const [member, { rank }] of section.shards.entries())
          flush?.wrote(places[rank]!.fd, sectionBytes(section, member, dtype))
      }
      try {
        await copySections(cut.flat(), { ...options, pool, done, advance })
      } finally {
        await flush?.rest()
      }
      return cut.map(sections => combined(sections, sums))
    },
    async close() {
      signal?.removeEventListener('abort', onAbort)
      await pool?.close()
    },
  }
}

interface SectionCopy extends WeightCopy {
  readonly section: ShardSection
}

function threadCount({ workers, sources }: CopierOptions): number {
  if (workers !== undefined) {
    if (Number.isSafeInteger(workers) && workers > 0) return workers
    throw new InputError(`workers is ${workers}; it is 1 or more.`)
  }
  let bytes = 0
  for (const { tensors } of sources) for (const tensor of tensors.values()) bytes += tensorBytes(tensor)
  return bytes >= workersFromBytes ? Math.min(availableParallelism(), 4) : 1
}

// What a thread can read goes to the threads; what is computed when it is read is copied here, and all of it without them.
async function copySections(
  sections: readonly SectionCopy[],
  options: CopierOptions & {
    pool: CopyPool | undefined
    advance: (bytes: number) => void
    done: (copy: SectionCopy, crcs: readonly number[]) => void
  },
): Promise<void> {
  const { pool, done, advance, signal, what } = options
  const here: SectionCopy[] = []
  const inThreads: Promise<void>[] = []
  for (const copy of sections) {
    const task = pool && storedTask(copy)
    if (task === undefined) here.push(copy)
    else
      inThreads.push(
        pool!.copy(task, sections).then(crcs => {
          done(copy, crcs)
          advance(copy.section.shards.reduce((sum, _, i) => sum + sectionBytes(copy.section, i, copy.dtype), 0))
        }),
      )
  }
  const scratches = Array.from({ length: copyLanes }, emptyScratch)
  const throwIfCancelled = (): void => checkCancelled(signal, what)
  const copyHere = inLanes(here, copyLanes, async (copy, lane) => {
    const settings = { scratch: scratches[lane]!, throwIfCancelled, advance }
    done(copy, await copySection(copy, copy.source, settings))
  })
  copyHere.catch(error => pool?.close(error))
  const ends = await Promise.allSettled([...inThreads, copyHere])
  for (const end of ends) if (end.status === 'rejected') throw end.reason
}

function storedTask({ section, source, dtype, places }: SectionCopy): CopyTask | undefined {
  const wanted = new Map<string, readonly Rectangle[]>()
  for (const rectangle of section.shards[0]!.rectangles)
    wanted.set(rectangle.tensor, [...(wanted.get(rectangle.tensor) ?? []), rectangle])
  const tensors: CopyTask['tensors'][number][] = []
  for (const [name, rows] of wanted) {
    const pieces = source.readRows.pieces?.(name)
    if (pieces === undefined) return undefined
    const { dtype, shape } = source.tensors.get(name)!
    const isWanted = (piece: StoredPiece): boolean =>
      rows.some(it => it.row < piece.row + piece.rows && piece.row < it.row + it.rows)
    tensors.push({ name, dtype, shape, pieces: pieces.filter(isWanted) })
  }
  return { section, tensors, dtype, places }
}

// Sections of one shard follow each other in the order of its rows.
function combined(
  sections: readonly SectionCopy[],
  sums: ReadonlyMap<ShardSection, readonly number[]>,
): readonly number[] {
  const crcs = sections[0]?.shards.map(() => 0) ?? []
  for (const { section, dtype } of sections)
    for (const [member, { rank }] of section.shards.entries())
      crcs[rank] = crc32Combine(crcs[rank]!, sums.get(section)![member]!, sectionBytes(section, member, dtype))
  return crcs
}
