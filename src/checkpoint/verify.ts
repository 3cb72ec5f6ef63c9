import { InputError } from '../errors.ts'
import { tensorBytes } from '../formats/tensor.ts'
import { checkCancelled, emptyScratch, fillShards, type ShardSink } from './block-copy.ts'
import { changedSlice } from './changed-slice.ts'
import type { Difference } from './difference.ts'
import { type HfModelSource, openHfModel } from './open-hf-model.ts'
import { type MegatronShards, openMegatronShards } from './open-megatron.ts'
import { shardSections } from './shard-sections.ts'
import type { ShardedWeight } from './shard-source.ts'
import { type Compared, structural, type Verification, type VerifyOptions, verification } from './verification.ts'
import { verifyContents } from './verify-contents.ts'

/**
 * Compares a Hugging Face model with a Megatron checkpoint: first names, shapes and types from headers, then every
 * element of every rank, copies and (of converted weights) padding included, as a conversion would have stored it.
 * With only one of the two, compares its tensors with the CRC-32s of its manifest, or without a manifest, of Megatron
 * shards, with those in the files.
 *
 * Memory: about 6 MiB. Differences are a result, not an error.
 * @throws InputError when neither is given, or for adapters, which have no Hugging Face form; CancelledError.
 */
export async function verify(options: VerifyOptions): Promise<Verification> {
  const { hf, megatron } = options
  if (hf === undefined && megatron === undefined)
    throw new InputError('verify needs a Hugging Face folder (hf), a Megatron folder (megatron), or both.')
  if (hf === undefined || megatron === undefined) return verification(await verifyContents(options))
  const opened: { close(): Promise<void> }[] = []
  try {
    const model = await openHfModel(hf)
    opened.push(model)
    const { architecture } = model
    const shards = await openMegatronShards(megatron, { iteration: options.iteration, architecture })
    opened.push(shards)
    if (shards.lora !== undefined)
      throw new InputError(`${megatron} holds LoRA adapters, which no Hugging Face tensor can be compared with.`, {
        hint: 'Merge them with megatronToHf and compare the results.',
      })
    return verification(await compare({ ...options, model, shards }))
  } catch (error) {
    return verification({ checked: 'headers', tensors: 0, bytes: 0, differences: [structural(error, hf)] })
  } finally {
    for (const it of opened) await it.close()
  }
}

interface Comparison extends VerifyOptions {
  readonly model: HfModelSource
  readonly shards: MegatronShards
}

async function compare(options: Comparison): Promise<Compared> {
  const { model, shards, signal, contents = true, maxDifferences = 20 } = options
  const differences: Difference[] = []
  for (const { weight, shards: ranks } of shards.weights) {
    for (const { name } of weight.plan.parts) {
      const expected = options.dtype ?? model.tensors.get(name)!.dtype
      const other = ranks.find(({ tensor }) => tensor.dtype !== expected)
      if (other !== undefined && differences.length < maxDifferences)
        differences.push({
          ...{ kind: 'dtype', tensor: name, path: other.file.path },
          ...{ expected: `in ${expected}`, found: other.tensor.dtype },
        })
    }
  }
  const facts = { tensors: model.tensors.size, bytes: 0, differences }
  if (!contents || differences.length > 0) return { ...facts, checked: 'headers' }
  const totalBytes = shards.weights.flatMap(it => it.shards).reduce((sum, { tensor }) => sum + tensorBytes(tensor), 0)
  let bytes = 0
  for (const sharded of shards.weights) {
    await compareWeight(sharded, {
      ...options,
      throwIfCancelled: () => checkCancelled(signal, `Verifying ${options.megatron}`),
      advance: length => {
        bytes += length
        options.onProgress?.(bytes, totalBytes)
      },
      report: difference => differences.push(difference),
    })
    if (differences.length >= maxDifferences) break
  }
  return { ...facts, bytes, checked: 'values', differences: differences.slice(0, maxDifferences) }
}

// A conversion whose shards are compared with those that are there instead of being written.
async function compareWeight(
  { weight, shards: ranks }: ShardedWeight,
  options: Comparison & {
    throwIfCancelled: () => void
    advance: (bytes: number) => void
    report: (difference: Difference) => void
  },
): Promise<void> {
  const { model, shards, advance } = options
  const { dtype } = ranks[0]!.tensor
  const changes = ranks.map(({ tensor }, rank) =>
    changedSlice({
      shape: tensor.shape,
      dtype,
      plan: weight.plan,
      rank,
      // Training changes the rows that nobody reads.
      withPadding: shards.consumedTrainSamples === 0,
    }),
  )
  const at = ranks.map(() => 0)
  let buffer = new Uint8Array(0)
  const fill = { dtype, throwIfCancelled: options.throwIfCancelled, scratch: emptyScratch() }
  const compare: ShardSink = async (rank, expected) => {
    const { file, tensor } = ranks[rank]!
    const rowBytes = tensorBytes(tensor) / tensor.shape[0]!
    const rows = { start: at[rank]!, end: at[rank]! + expected.length / rowBytes }
    if (buffer.length < expected.length) buffer = new Uint8Array(expected.length)
    const found = await file.readRows(tensor, rows, buffer.subarray(0, expected.length))
    changes[rank]!.compare(rows.start, expected, found)
    at[rank] = rows.end
    advance(expected.length)
  }
  for (const section of shardSections(weight.plan.shards)) await fillShards(section, model, { ...fill, sink: compare })
  for (const [rank, change] of changes.entries()) {
    const slice = change.slice()
    if (slice === undefined) continue
    const place = { rank: { tp: rank, stage: weight.stage }, path: ranks[rank]!.file.path, key: weight.key }
    options.report({ kind: 'values', ...slice, ...place })
  }
}
