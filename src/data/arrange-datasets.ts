import { openIndexedDataset } from '../formats/indexed-dataset.ts'
import { createIndexedDataset, type DatasetCount } from '../formats/indexed-dataset-writer.ts'
import { blendDocuments } from './blend-documents.ts'
import { chooseDocuments, validationCount } from './choose-validation.ts'
import type { DatasetNames } from './dataset-names.ts'
import { ignoredLabel } from './handlers/general-instruction.ts'
import { packSamples } from './pack-samples.ts'
import { removeStaleCaches } from './stale-caches.ts'

/** How encoded rows become the datasets that are trained and measured on. */
export interface Arrangement {
  /** Share of the documents below 1, or their number, that are set aside. */
  readonly validation?: number | undefined
  readonly seed: number
  /** One for each corpus, unless they are to come one after another, each once. */
  readonly weights?: readonly number[] | undefined
  /** Length of packed samples, and what fills their ends up. */
  readonly pack?: { readonly seqLength: number; readonly padId: number } | undefined
}

/** Datasets whose documents belong together, one for each key. */
interface DatasetGroup {
  readonly keys: readonly string[]
  /** Where the encoded rows are. */
  readonly rows: readonly string[]
  readonly train: readonly string[]
  readonly validation: readonly string[]
  /** Documents of each corpus. */
  readonly corpora: readonly number[]
}

interface ArrangedGroup {
  readonly train: DatasetCount
  readonly validation?: DatasetCount | undefined
  /** How often each corpus' documents come. */
  readonly passes: readonly number[]
}

/** Counts of each dataset, in the order of the keys. */
export interface ArrangedDatasets {
  readonly train: readonly DatasetCount[]
  readonly validation?: readonly DatasetCount[] | undefined
  /** How often each corpus' documents come. */
  readonly passes: readonly number[]
}

/** Arranges all datasets: instruction data alike for all keys, others each for itself. `documents` as `writeRows` has. */
export async function arrangeAll(
  { keys, isInstruction, rows, train, validation }: DatasetNames,
  options: Arrangement & { documents: readonly (readonly number[])[]; signal?: AbortSignal | undefined },
): Promise<ArrangedDatasets> {
  const groups = isInstruction ? [keys.map((_, i) => i)] : keys.map((_, i) => [i])
  const arranged: ArrangedGroup[] = []
  for (const group of groups) {
    const of = (all: readonly string[]) => group.map(i => all[i] ?? '')
    const corpora = options.documents[group[0] ?? 0] ?? []
    const names = { keys: of(keys), rows: of(rows), train: of(train), validation: of(validation), corpora }
    const found = await arrangeDatasets(names, options)
    arranged.push(...group.map(() => found))
  }
  const aside = arranged.flatMap(group => group.validation ?? [])
  return {
    train: arranged.map(group => group.train),
    ...(aside.length > 0 && { validation: aside }),
    passes: arranged[0]?.passes ?? [],
  }
}

/**
 * Sets validation data aside, blends what is left by weights, and packs both.
 *
 * Memory is at most 28 bytes a sequence and 24 a document. The datasets appear complete, with an index last.
 * @throws InputError when nothing is left to train on, or to measure on.
 */
async function arrangeDatasets(
  group: DatasetGroup,
  { validation, seed, weights, pack, signal }: Arrangement & { readonly signal?: AbortSignal | undefined },
): Promise<ArrangedGroup> {
  const sets = group.rows.map(openIndexedDataset)
  try {
    const [first] = sets
    if (!first) return { train: { sequences: 0, documents: 0, tokens: 0 }, passes: [] }
    const { documents, lengths } = first
    const startOf = (document: number) => documents[document] ?? 0
    const tokensOf = (document: number) => {
      let tokens = 0
      for (let i = startOf(document); i < startOf(document + 1); i++) tokens += lengths[i] ?? 0
      return tokens
    }

    // A document all of whose sequences were left out is none here.
    const filled = choose(documents.length - 1, document => startOf(document + 1) > startOf(document))
    const count = validation === undefined ? 0 : validationCount(filled.length, validation)
    const isAside = chooseDocuments(filled.length, { count, seed })
    const aside = filled.filter((_, i) => isAside[i] === 1)
    const kept = count === 0 ? filled : filled.filter((_, i) => isAside[i] === 0)
    const corpora = splitByCorpus(kept, group.corpora)
    const passes = corpora.map(() => 0)
    function* order() {
      if (!weights) return yield* kept
      const blended = corpora.map((documents, i) => ({ documents, weight: weights[i] ?? 1 }))
      for (const { corpus, document } of blendDocuments(blended, tokensOf)) {
        passes[corpus] = (passes[corpus] ?? 0) + 1
        yield document
      }
    }

    const write = async (prefixes: readonly string[], chosenDocuments: Iterable<number>) => {
      const writers = []
      try {
        for (const prefix of prefixes) writers.push(await createIndexedDataset(prefix))
        for (const sequences of samplesOf(chosenDocuments)) {
          signal?.throwIfAborted()
          for (const [i, set] of sets.entries()) {
            const parts = sequences.map(sequence => set.sequence(sequence))
            await writers[i]?.addDocument(
              pack ? [join(parts, pack.seqLength, fillOf(group.keys[i], pack.padId))] : parts,
            )
          }
        }
        await removeStaleCaches(prefixes)
        for (const writer of writers) await writer.retire()
        const counts = []
        for (const writer of writers) counts.push(await writer.finish())
        return counts[0]
      } finally {
        for (const writer of writers) await writer.abort()
      }
    }
    function* samplesOf(chosenDocuments: Iterable<number>): Generator<readonly number[]> {
      if (!pack) {
        for (const document of chosenDocuments) yield range(startOf(document), startOf(document + 1))
        return
      }
      const sequences = createList()
      for (const document of chosenDocuments)
        for (let i = startOf(document); i < startOf(document + 1); i++) sequences.push(i)
      const samples = sequences.values()
      const sizes = new Int32Array(samples.length)
      for (let i = 0; i < samples.length; i++) sizes[i] = lengths[samples[i] as number] ?? 0
      for (const bin of packSamples(sizes, pack.seqLength - 1)) yield bin.map(sample => samples[sample] ?? 0)
    }

    const none = { sequences: 0, documents: 0, tokens: 0 }
    const measured = validation === undefined ? undefined : ((await write(group.validation, aside)) ?? none)
    const train = (await write(group.train, order())) ?? none
    const sizes = corpora.map(({ length }) => length)
    return {
      train,
      validation: measured,
      passes: weights ? passes.map((n, i) => n / (sizes[i] || 1)) : sizes.map(() => 1),
    }
  } finally {
    for (const set of sets) set.close()
  }
}

/** What stands where a packed sample has no tokens left. */
function fillOf(key: string | undefined, padId: number): number {
  if (key === 'labels') return ignoredLabel
  return key === 'attention_mask' ? 0 : padId
}

function join(parts: readonly Int32Array[], length: number, fill: number): Int32Array {
  const joined = new Int32Array(length).fill(fill)
  let at = 0
  for (const part of parts) {
    joined.set(part, at)
    at += part.length
  }
  return joined
}

/** `corpora` has the number of documents of each, also of those that were left out. */
function splitByCorpus(documents: Uint32Array, corpora: readonly number[]): readonly Uint32Array[] {
  let end = 0
  let next = 0
  return corpora.map(count => {
    end += count
    const start = next
    while (next < documents.length && (documents[next] as number) < end) next++
    return documents.subarray(start, next)
  })
}

function range(start: number, end: number): number[] {
  return Array.from({ length: end - start }, (_, i) => start + i)
}

/** The numbers below `total` that are wanted. */
function choose(total: number, isWanted: (value: number) => boolean): Uint32Array {
  const chosen = new Uint32Array(total)
  let count = 0
  for (let i = 0; i < total; i++) if (isWanted(i)) chosen[count++] = i
  return chosen.subarray(0, count)
}

/** Numbers of which it is not known how many there will be, 4 to 8 bytes each. */
function createList() {
  let held = new Uint32Array(1 << 16)
  let count = 0
  return {
    push(value: number) {
      if (count === held.length) {
        const grown = new Uint32Array(2 * count)
        grown.set(held)
        held = grown
      }
      held[count++] = value
    },
    values: () => held.subarray(0, count),
  }
}
