import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import { writeMegatronCheckpoint } from '../../src/checkpoint/write-megatron.ts'
import { createIndexedDataset } from '../../src/formats/indexed-dataset-writer.ts'
import type { Architecture } from '../../src/models/architecture.ts'
import { parseArguments, type TrainOptions } from '../../src/trainer/arguments.ts'
import { trainModel } from '../../src/trainer/loop.ts'
import { randomState } from '../../src/trainer/random-state.ts'
import { type NamedValues, valuesSource } from '../../src/trainer/weights.ts'

/** A Llama of two layers that trains hundreds of iterations a second. */
export const tiny: Architecture = {
  family: 'llama',
  numLayers: 2,
  hiddenSize: 16,
  ffnHiddenSize: 24,
  numAttentionHeads: 4,
  numQueryGroups: 2,
  kvChannels: 4,
  vocabSize: 61,
  maxPositionEmbeddings: 64,
  normEpsilon: 1e-5,
  rotaryBase: 10000,
  tiedEmbeddings: false,
  addQkvBias: false,
}

/** A folder that goes when the test is over. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ascendflow-trainer-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

export interface Fixture {
  readonly folder: string
  /** Checkpoint to start from, iteration 1, TP 2 PP 2, legacy names, float32. */
  readonly load: string
  /** Pretraining data: 40 documents that count up modulo the vocabulary. */
  readonly data: string
  /** 20 instruction rows, the first third of each masked. */
  readonly rows: string
}

/** Weights and data to train on; `change` may alter the weights first. */
export async function fixture(change: (weights: readonly NamedValues[]) => void = () => {}): Promise<Fixture> {
  const architecture = tiny
  const folder = await temporaryFolder()
  const load = join(folder, 'init')
  const weights = randomWeights(architecture)
  change(weights)
  await writeMegatronCheckpoint(load, {
    source: valuesSource(weights),
    architecture,
    parallel: { tp: 2, pp: 2 },
    layout: 'legacy',
    iteration: 1,
    dtype: 'F32',
    paddedVocabSize: 64,
  })
  const data = join(folder, 'web_text_document')
  const random = randomState(5)
  await writeDataSet(
    data,
    Array.from({ length: 40 }, (_, i) => counting(i, 5 + (random.uint32() % 40), architecture.vocabSize)),
  )
  const rows = join(folder, 'alpaca')
  const ids = Array.from({ length: 20 }, (_, i) => counting(3 * i, 6 + (random.uint32() % 20), architecture.vocabSize))
  await writeDataSet(`${rows}_packed_input_ids_document`, ids)
  await writeDataSet(
    `${rows}_packed_attention_mask_document`,
    ids.map(row => row.map(() => 1)),
  )
  await writeDataSet(
    `${rows}_packed_labels_document`,
    ids.map(row => row.map((id, i) => (i < row.length / 3 ? -100 : id))),
  )
  return { folder, load, data, rows }
}

/** Writes one document of one sequence for each row. */
export async function writeDataSet(prefix: string, rows: readonly Int32Array[]): Promise<void> {
  const writer = await createIndexedDataset(prefix)
  for (const row of rows) await writer.addDocument([row])
  await writer.finish()
}

/** A command line for ten quick iterations; `more` adds to it and overrides. */
export function commandLine({ load, data }: Fixture, more: string): string[] {
  const layout =
    '--tensor-model-parallel-size 2 --pipeline-model-parallel-size 2 --seq-length 16 --micro-batch-size 2 --global-batch-size 4'
  const schedule =
    '--train-iters 10 --lr 3e-3 --min-lr 3e-4 --lr-decay-style cosine --lr-warmup-iters 2 --weight-decay 0.1'
  const rest = `--load ${load} --data-path ${data} --split 100,0,0 --eval-iters 0 --log-interval 1 --save-interval 5 --threads 1 --finetune`
  return `${layout} ${schedule} ${rest} ${more}`.split(' ').filter(Boolean)
}

/** Trains in this process; gives the outcome and the log. */
export async function runTrainer(
  fixture: Fixture,
  more: string,
  { signal, onLine, drop }: { signal?: AbortSignal; onLine?: (line: string) => void; drop?: string } = {},
): Promise<{ outcome: 'finished' | 'stopped'; lines: string[]; options: TrainOptions }> {
  const options = parseArguments(commandLine(fixture, more).filter(word => word !== drop))
  const lines: string[] = []
  const print = (line: string) => {
    lines.push(line)
    onLine?.(line)
  }
  return { outcome: await trainModel(options, { signal, print }), lines, options }
}

/** Digest of every weight of a checkpoint. */
export async function weightBytes(dir: string): Promise<Record<string, string>> {
  const source = await openMegatronCheckpoint(dir)
  try {
    const bytes: Record<string, string> = {}
    for (const [name, { shape }] of source.tensors) {
      bytes[name] = sha256(await source.readRows(name, 0, shape[0] ?? 1))
    }
    return bytes
  } finally {
    await source.close()
  }
}

/** Digest of every file below a folder, by its path there. */
export async function folderBytes(dir: string): Promise<Record<string, string>> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  const files = entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
  return Object.fromEntries(
    await Promise.all(files.map(async file => [file.slice(dir.length + 1), sha256(await readFile(file))])),
  )
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function counting(start: number, length: number, vocabSize: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => (start + i) % vocabSize)
}

function randomWeights(model: Architecture): NamedValues[] {
  const { hiddenSize, ffnHiddenSize, kvChannels, vocabSize } = model
  const random = randomState(1)
  const heads = model.numAttentionHeads * kvChannels
  const groups = model.numQueryGroups * kvChannels
  const layer = (i: number): [string, number[]][] => [
    [`model.layers.${i}.input_layernorm.weight`, [hiddenSize]],
    [`model.layers.${i}.self_attn.q_proj.weight`, [heads, hiddenSize]],
    [`model.layers.${i}.self_attn.k_proj.weight`, [groups, hiddenSize]],
    [`model.layers.${i}.self_attn.v_proj.weight`, [groups, hiddenSize]],
    [`model.layers.${i}.self_attn.o_proj.weight`, [hiddenSize, heads]],
    [`model.layers.${i}.post_attention_layernorm.weight`, [hiddenSize]],
    [`model.layers.${i}.mlp.gate_proj.weight`, [ffnHiddenSize, hiddenSize]],
    [`model.layers.${i}.mlp.up_proj.weight`, [ffnHiddenSize, hiddenSize]],
    [`model.layers.${i}.mlp.down_proj.weight`, [hiddenSize, ffnHiddenSize]],
  ]
  const shapes: [string, number[]][] = [
    ['model.embed_tokens.weight', [vocabSize, hiddenSize]],
    ...Array.from({ length: model.numLayers }, (_, i) => layer(i)).flat(),
    ['model.norm.weight', [hiddenSize]],
    ['lm_head.weight', [vocabSize, hiddenSize]],
  ]
  return shapes.map(([name, shape]) => {
    const isNorm = name.endsWith('norm.weight')
    const length = shape.reduce((a, b) => a * b, 1)
    return { name, shape, values: Float32Array.from({ length }, () => (isNorm ? 1 : 0.2 * (random.random() - 0.5))) }
  })
}
