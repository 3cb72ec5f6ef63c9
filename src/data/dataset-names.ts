import { rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { readIndex } from '../formats/indexed-dataset-index.ts'
import type { DatasetCount } from '../formats/indexed-dataset-writer.ts'
import type { Handler } from './handlers/handler.ts'

/** Datasets that belong together. */
export interface WrittenSet extends DatasetCount {
  /** What Megatron's `--data-path` wants: the dataset's prefix, but for instruction data the output prefix. */
  readonly dataPath: string
  /** In the order of the handler's keys. */
  readonly datasets: readonly WrittenDataset[]
  /** As `sequences` and `tokens`: of the first dataset for instruction data (all are alike), of all together otherwise. */
  readonly documents: number
}

export interface WrittenDataset extends DatasetCount {
  readonly key: string
  /** Path without `.idx` and `.bin`. */
  readonly prefix: string
}

/** Names of all datasets of one output prefix. */
export interface DatasetNames {
  readonly keys: readonly string[]
  readonly isInstruction: boolean
  readonly train: readonly string[]
  /** `validation_NAME…` beside the others: no name begins with that of another set. */
  readonly validation: readonly string[]
  /** Encoded rows that are still to be arranged; hidden. */
  readonly rows: readonly string[]
  setOf(which: 'train' | 'validation' | 'rows', counts: readonly DatasetCount[]): WrittenSet
}

/** Names as ModelLink gives them: `NAME_text_document`, `NAME_packed_labels_document`. */
export function createNames(
  handler: Handler,
  { outputPrefix, jsonKeys }: { outputPrefix: string; jsonKeys: readonly string[] },
): DatasetNames {
  const keys = handler.keys(jsonKeys)
  const isInstruction = handler.infix === '_packed'
  const bases = {
    train: outputPrefix,
    validation: join(dirname(outputPrefix), `validation_${basename(outputPrefix)}`),
    rows: join(dirname(outputPrefix), `.${basename(outputPrefix)}.rows`),
  }
  const prefixesOf = (base: string) => keys.map(key => `${base}${handler.infix}_${key}_document`)
  const [train, validation, rows] = [bases.train, bases.validation, bases.rows].map(prefixesOf) as [
    string[],
    string[],
    string[],
  ]
  const prefixes = { train, validation, rows }
  return {
    ...{ keys, isInstruction, ...prefixes },
    setOf(which, counts) {
      const datasets = prefixes[which].map((prefix, i) => ({ ...none, ...counts[i], key: keys[i] ?? '', prefix }))
      const counted = isInstruction ? datasets.slice(0, 1) : datasets
      const sum = (field: keyof DatasetCount) => counted.reduce((total, dataset) => total + dataset[field], 0)
      const dataPath = isInstruction ? bases[which] : (prefixes[which][0] ?? bases[which])
      return { dataPath, datasets, documents: sum('documents'), sequences: sum('sequences'), tokens: sum('tokens') }
    },
  }
}

const none: DatasetCount = { sequences: 0, documents: 0, tokens: 0 }

/** What finished datasets hold. */
export function measureDatasets(prefixes: readonly string[]): readonly DatasetCount[] {
  return prefixes.map(prefix => {
    const { lengths, starts, documents } = readIndex(`${prefix}.idx`)
    return { sequences: lengths.length, documents: documents.length - 1, tokens: starts[lengths.length] ?? 0 }
  })
}

export async function removeDatasets(prefixes: readonly string[]): Promise<void> {
  for (const prefix of prefixes) for (const extension of ['idx', 'bin']) await rm(`${prefix}.${extension}`)
}
