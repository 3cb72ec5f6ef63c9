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
 * Memory is 20 bytes a sequence and 16 a document. The datasets appear complete, with an index last.
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
    const sequencesOf = (document: number) => range(documents[document] ?? 0, documents[document + 1] ?? 0)
    const tokensOf = (document: number) =>
      sequencesOf(document).reduce((tokens, sequence) => tokens + (lengths[sequence] ?? 0), 0)

    // A document all of whose sequences were left out is none here.
    const filled = range(0, documents.length - 1).filter(document => documents[document + 1] !== documents[document])
    const count = validation === undefined ? 0 : validationCount(filled.length, validation)
    const chosen = chooseDocuments(filled.length, { count, seed })
    const aside = filled.filter((_, i) => chosen.has(i))
    const kept = filled.filter((_, i) => !chosen.has(i))
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
      if (!pack) for (const document of chosenDocuments) yield sequencesOf(document)
      else {
        const sequences = Array.from(chosenDocuments, sequencesOf).flat()
        const sizes = Int32Array.from(sequences, sequence => lengths[sequence] ?? 0)
        for (const bin of packSamples(sizes, pack.seqLength - 1)) yield bin.map(sample => sequences[sample] ?? 0)
      }
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

function splitByCorpus(documents: readonly number[], corpora: readonly number[]): number[][] {
  let end = 0
  let next = 0
  return corpora.map(count => {
    end += count
    const start = next
    while (next < documents.length && (documents[next] as number) < end) next++
    return documents.slice(start, next)
  })
}

function range(start: number, end: number): number[] {
  return Array.from({ length: end - start }, (_, i) => start + i)
}
