import { FormatError, InputError } from '../errors.ts'
import { createIndexedDataset, type IndexedDatasetWriter } from '../formats/indexed-dataset-writer.ts'
import { type EncodeInputOptions, encodeInput, type InputPlan, type InputPosition } from './encode-corpora.ts'
import { type ResumePoint, readResumePoint, removeResumePoint, resumeFile, writeResumePoint } from './resume-point.ts'
import { addCounts, createCount, type RowCount } from './row-count.ts'

/** Makes work outlive the process that does it. */
export interface Resume {
  /** Where the parts belong: output prefix of the whole. */
  readonly outputPrefix: string
  /** Settings and files: parts of other work are not gone on with. */
  readonly identity: string
  /** Bytes of input between two times that all is brought to the disk. */
  readonly everyBytes: number
}

export interface WriteRowsOptions extends Omit<EncodeInputOptions, 'from'> {
  /** Where the datasets go, one prefix for each of the handler's keys. */
  readonly prefixes: readonly string[]
  readonly resume?: Resume | undefined
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

/** Encoded rows, ready to appear. */
export interface WrittenRows {
  readonly writers: readonly IndexedDatasetWriter[]
  readonly count: RowCount
  /** Documents of each corpus, in each dataset. */
  readonly documents: readonly (readonly number[])[]
  /** The work had been done before; there are no writers. */
  readonly isEncoded: boolean
  /** Notes that the datasets have appeared under their prefixes. */
  noteEncoded(): Promise<void>
  /** Removes all that was gathered. */
  discard(): Promise<void>
}

/**
 * Encodes the whole input and gathers it in files that nobody sees yet.
 *
 * With `resume` the work goes on where it was saved last, after a kill at most `everyBytes` before. What can go on is
 * kept when the work is stopped or the machine fails it; after an error in the input nothing is left.
 */
export async function writeRows(plan: InputPlan, options: WriteRowsOptions): Promise<WrittenRows> {
  const { prefixes, resume, signal, onProgress } = options
  const file = resume && resumeFile(resume.outputPrefix)
  let point = resume && file ? await readResumePoint(file, resume.identity) : undefined
  const none = async () => {}
  if (point?.isEncoded) return { writers: [], ...point, noteEncoded: none, discard: none }
  const opened = await openWriters(prefixes, { keepParts: resume !== undefined, point })
  const { writers } = opened
  point = opened.point
  let count: RowCount = point?.count ?? createCount()
  const documents = point?.documents.map(counts => [...counts]) ?? prefixes.map(() => plan.corpora.map(() => 0))
  let position: InputPosition = point?.position ?? { piece: 0, rows: 0 }
  let isSaved = point !== undefined
  const save = async (isEncoded = false) => {
    if (!resume || !file) return
    const saved = isEncoded ? [] : await inTurn(writers, writer => writer.save())
    await writeResumePoint(file, {
      format: 1,
      ...{ identity: resume.identity, isEncoded, position, saved, documents, count },
    })
    isSaved = true
  }
  const discard = async () => {
    await Promise.all(writers.map(writer => writer.abort()))
    if (file) await removeResumePoint(file)
  }
  try {
    let savedBytes: number | undefined
    for await (const { corpus, block, next, doneBytes } of encodeInput(plan, { ...options, from: position })) {
      for (const [i, dataset] of block.datasets.entries()) {
        await writers[i]?.addDocuments(dataset)
        const ofDataset = documents[i]
        if (ofDataset) ofDataset[corpus] = (ofDataset[corpus] ?? 0) + dataset.sequences.length
      }
      count = addCounts(count, block.count)
      position = next
      onProgress?.(doneBytes, plan.totalBytes)
      savedBytes ??= doneBytes
      if (resume && doneBytes - savedBytes >= resume.everyBytes) {
        await save()
        savedBytes = doneBytes
      }
      signal?.throwIfAborted()
    }
    return { writers, count, documents, isEncoded: false, noteEncoded: () => save(true), discard }
  } catch (error) {
    const isInput = error instanceof FormatError || error instanceof InputError
    if (isSaved && signal?.aborted) await save().catch(() => {})
    if (isSaved && !isInput) await Promise.all(writers.map(writer => writer.suspend()))
    else await discard()
    throw error
  }
}

async function openWriters(
  prefixes: readonly string[],
  { keepParts, point }: { keepParts: boolean; point: ResumePoint | undefined },
): Promise<{ readonly writers: readonly IndexedDatasetWriter[]; readonly point: ResumePoint | undefined }> {
  const writers: IndexedDatasetWriter[] = []
  try {
    for (const [i, prefix] of prefixes.entries()) {
      writers.push(await createIndexedDataset(prefix, { keepParts, from: point?.saved[i] }))
    }
    return { writers, point }
  } catch (error) {
    await Promise.all(writers.map(writer => writer.abort()))
    // Parts that are shorter than was noted, or gone: nothing of them can be used.
    if (point && error instanceof FormatError) return openWriters(prefixes, { keepParts, point: undefined })
    throw error
  }
}

/** In order, one after another. */
async function inTurn<T, R>(items: readonly T[], each: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  for (const item of items) results.push(await each(item))
  return results
}
