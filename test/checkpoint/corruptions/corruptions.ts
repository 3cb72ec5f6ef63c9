import { cp, mkdir, open, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { shardTensors } from '../../../src/checkpoint/shard-tensors.ts'
import type { PickleValue } from '../../../src/formats/pickle-value.ts'
import { openTorchFile } from '../../../src/formats/torch-file.ts'
import { rewriteShard, rowsOf, type ShardContent, setRows, weightOf } from './rewrite-shard.ts'

/** The folders that corruptions work on: a model and what a conversion made of it. */
export interface Victim {
  readonly hf: string
  readonly megatron: string
  /** Another conversion of other weights of the same shapes, at the same layout and at tp 4 and tp 1, pp 1. */
  readonly other: string
  readonly tp4: string
  readonly single: string
  /** A random whole number from 0 to `below` - 1, the same for the same seed. */
  readonly random: (below: number) => number
}

/** Random numbers by which the same seed gives the same corruptions (mulberry32). */
export function seeded(seed: number): Victim['random'] {
  let state = seed >>> 0
  return below => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

const iteration = 'iter_0000001'
const rankName = (tp: number, stage: number): string => `mp_rank_0${tp}_00${stage}`
const folder = (victim: Victim, tp = 0, stage = 0): string => join(victim.megatron, iteration, rankName(tp, stage))
const shard = (victim: Victim, tp = 0, stage = 0): string => join(folder(victim, tp, stage), 'model_optim_rng.pt')
const tracker = (victim: Victim): string => join(victim.megatron, 'latest_checkpointed_iteration.txt')
const weights = (victim: Victim): string => join(victim.hf, 'model.safetensors')

async function editAll(victim: Victim, edit: (content: ShardContent) => void): Promise<void> {
  for (const stage of [0, 1, 2, 3]) for (const tp of [0, 1]) await rewriteShard(shard(victim, tp, stage), edit)
}

async function editOne(victim: Victim, edit: (content: ShardContent) => void, stage?: number): Promise<void> {
  await rewriteShard(shard(victim, victim.random(2), stage ?? victim.random(4)), edit)
}

async function swap(a: string, b: string): Promise<void> {
  await rename(a, `${a}.x`)
  await rename(b, a)
  await rename(`${a}.x`, b)
}

async function flip(path: string, at: number, bit: number): Promise<void> {
  const file = await open(path, 'r+')
  const byte = new Uint8Array(1)
  await file.read(byte, 0, 1, at)
  byte[0]! ^= 1 << bit
  await file.write(byte, 0, 1, at)
  await file.close()
}

async function editHf(victim: Victim, edit: (header: Record<string, { dtype: string }>) => void): Promise<void> {
  const bytes = await readFile(weights(victim))
  const length = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString())
  edit(header)
  const json = Buffer.from(JSON.stringify(header))
  const head = Buffer.alloc(8)
  head.writeBigUInt64LE(BigInt(json.length))
  await writeFile(weights(victim), Buffer.concat([head, json, bytes.subarray(8 + length)]))
}

const dtypeOf = (content: ShardContent, part: string, dtype: 'F16' | 'F32'): void => {
  const key = [...content.weights.keys()].find(it => it.includes(part))!
  const { tensor, bytes } = content.weights.get(key)!
  const wide = dtype === 'F32' ? new Uint8Array(2 * bytes.length) : bytes
  if (dtype === 'F32') for (let i = 0; i < bytes.length; i++) wide[2 * i + (i % 2 === 0 ? 2 : 1) - (i % 2)] = bytes[i]!
  content.weights.set(key, { tensor: { ...tensor, dtype }, bytes: wide })
}

/** Ways in which checkpoints go wrong; the model has tp 2, pp 4, one layer a stage, 2 groups a rank of 2 heads of 2. */
export const corruptions: Readonly<Record<string, (victim: Victim) => Promise<unknown>>> = {
  'q and k swapped': victim =>
    editOne(victim, content => {
      const weight = weightOf(content, 'query_key_value.weight')
      const rows = rowsOf(weight)
      setRows(weight, [...rows.slice(4, 6), ...rows.slice(0, 4), ...rows.slice(6)])
    }),
  'k and v swapped': victim =>
    editOne(victim, content => {
      const weight = weightOf(content, 'query_key_value.weight')
      const rows = rowsOf(weight)
      setRows(weight, [...rows.slice(0, 4), ...rows.slice(6, 8), ...rows.slice(4, 6), ...rows.slice(8)])
    }),
  'q, k and v not grouped': victim =>
    editOne(victim, content => {
      const weight = weightOf(content, 'query_key_value.weight')
      const rows = rowsOf(weight)
      const of = (from: number, to: number) => [...rows.slice(from, to), ...rows.slice(8 + from, 8 + to)]
      setRows(weight, [...of(0, 4), ...of(4, 6), ...of(6, 8)])
    }),
  'gate and up swapped': victim =>
    editOne(victim, content => {
      const weight = weightOf(content, 'dense_h_to_4h.weight')
      const rows = rowsOf(weight)
      setRows(weight, [...rows.slice(rows.length / 2), ...rows.slice(0, rows.length / 2)])
    }),
  'a weight transposed': victim =>
    editOne(victim, content => {
      const weight = weightOf(content, 'self_attention\0dense.weight'.replace('\0', '.'))
      const [rows, columns] = weight.tensor.shape as [number, number]
      ;(weight.tensor as { shape: readonly number[] }).shape = [columns, rows]
    }),
  'a weight transposed under its own shape': victim =>
    editOne(victim, content => {
      const weight = weightOf(content, 'self_attention.dense.weight')
      const [rows, columns] = weight.tensor.shape as [number, number]
      const source = new Uint16Array(weight.bytes.slice().buffer)
      const turned = new Uint16Array(source.length)
      for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) turned[j * rows + i] = source[i * columns + j]!
      weight.bytes = new Uint8Array(turned.buffer)
    }),
  'the file of another rank': victim => cp(shard(victim, 1, 1), shard(victim, 0, 1)),
  'two ranks swapped': async victim => {
    const stage = victim.random(4)
    await swap(folder(victim, 0, stage), folder(victim, 1, stage))
  },
  'two middle stages swapped': async victim => {
    for (const tp of [0, 1]) await swap(folder(victim, tp, 1), folder(victim, tp, 2))
  },
  'first and last stage swapped': async victim => {
    for (const tp of [0, 1]) await swap(folder(victim, tp, 0), folder(victim, tp, 3))
  },
  'one layer twice': async victim => {
    for (const tp of [0, 1]) await cp(shard(victim, tp, 1), shard(victim, tp, 2))
  },
  'layers numbered from 1': victim =>
    editAll(victim, ({ weights }) => {
      for (const [key, weight] of [...weights]) {
        if (!key.includes('layers.0.')) continue
        weights.delete(key)
        weights.set(key.replace('layers.0.', 'layers.1.'), weight)
      }
    }),
  'layers numbered through all stages': async victim => {
    for (const stage of [0, 1, 2, 3])
      for (const tp of [0, 1])
        await rewriteShard(shard(victim, tp, stage), ({ weights }) => {
          for (const [key, weight] of [...weights]) {
            weights.delete(key)
            weights.set(key.replace('layers.0.', `layers.${stage}.`), weight)
          }
        })
  },
  'a norm missing': victim =>
    editOne(victim, ({ weights }) => {
      weights.delete([...weights.keys()].find(key => key.includes('input_norm'))!)
    }),
  'the final norm missing': victim =>
    editOne(
      victim,
      ({ weights }) => {
        weights.delete([...weights.keys()].find(key => key.includes('final_norm'))!)
      },
      3,
    ),
  'a norm that differs on one rank': victim =>
    rewriteShard(shard(victim, 1, victim.random(4)), content => {
      weightOf(content, 'post_attention_norm').bytes[1 + victim.random(30)]! ^= 1
    }),
  'a weight that no model has': victim =>
    editOne(victim, ({ weights }) => {
      const [key, weight] = [...weights][1]!
      weights.set(key.replace(/[^.]*$/, 'scale'), { ...weight, tensor: { ...weight.tensor } })
    }),
  'a weight of zeros': victim => editOne(victim, content => weightOf(content, 'dense_4h_to_h').bytes.fill(0)),
  'a weight of NaN': victim => editOne(victim, content => weightOf(content, 'dense_4h_to_h').bytes.fill(255)),
  'weights of another training': async victim => {
    await rm(join(victim.megatron, iteration), { recursive: true })
    await cp(join(victim.other, iteration), join(victim.megatron, iteration), { recursive: true })
  },
  'one shard of another training': victim => {
    const path = [iteration, rankName(victim.random(2), victim.random(4)), 'model_optim_rng.pt']
    return cp(join(victim.other, ...path), join(victim.megatron, ...path))
  },
  'a weight stored as F16': victim => editOne(victim, content => dtypeOf(content, 'dense_h_to_4h', 'F16')),
  'a shard stored as F32': victim =>
    editOne(victim, content => {
      for (const key of [...content.weights.keys()]) dtypeOf(content, key, 'F32')
    }),
  'bytes of a type under the name of another': victim =>
    editAll(victim, content => {
      for (const key of [...content.weights.keys()]) dtypeOf(content, key, 'F16')
    }),
  'a truncated shard': async victim => {
    const path = shard(victim, victim.random(2), victim.random(4))
    const { size } = await stat(path)
    await truncate(path, Math.floor((size * (1 + victim.random(98))) / 100))
  },
  'an empty shard': victim => truncate(shard(victim, victim.random(2), victim.random(4)), 0),
  'a shard with zeros from the middle on': async victim => {
    const path = shard(victim, victim.random(2), victim.random(4))
    const { size } = await stat(path)
    await truncate(path, size >> 1)
    await truncate(path, size)
  },
  'a bit of a weight flipped': async victim => {
    const path = shard(victim, victim.random(2), victim.random(4))
    const file = await openTorchFile(path)
    const tensors = [...shardTensors(file).values()]
    const { offset, shape } = tensors[victim.random(tensors.length)]!
    await file.close()
    await flip(path, offset + victim.random(2 * shape.reduce((x, y) => x * y)), victim.random(8))
  },
  'a bit of the pickle flipped': victim =>
    flip(shard(victim, victim.random(2), victim.random(4)), 200 + victim.random(800), victim.random(8)),
  'a bit of the zip directory flipped': async victim => {
    const path = shard(victim, victim.random(2), victim.random(4))
    const { size } = await stat(path)
    await flip(path, size - 22 + 16 + victim.random(3), victim.random(8))
  },
  'a rank folder missing': victim => rm(folder(victim, victim.random(2), victim.random(4)), { recursive: true }),
  'a file missing in a rank folder': victim => rm(shard(victim, victim.random(2), victim.random(4))),
  'a rank folder with another number': victim => rename(folder(victim, 1, 3), folder(victim, 1, 4)),
  'a rank folder with a foreign name': victim =>
    rename(folder(victim, 1, 2), join(victim.megatron, iteration, 'mp_rank_01_002.bak')),
  'half of the ranks missing': async victim => {
    for (const stage of [0, 1, 2, 3]) await rm(folder(victim, 1, stage), { recursive: true })
  },
  'some stages of tp 4 over those of tp 2': async victim => {
    for (const tp of [0, 1, 2, 3]) {
      const name = rankName(tp, victim.random(4))
      await cp(join(victim.tp4, iteration, name), join(victim.megatron, iteration, name), { recursive: true })
    }
  },
  'stale ranks of tp 4 beside those of tp 2': async victim => {
    for (const tp of [2, 3])
      for (const stage of [0, 1, 2, 3])
        await cp(join(victim.tp4, iteration, rankName(tp, stage)), folder(victim, tp, stage), { recursive: true })
  },
  'a rank without stages beside those with': victim =>
    cp(join(victim.single, iteration, 'mp_rank_00'), join(victim.megatron, iteration, 'mp_rank_00'), {
      recursive: true,
    }),
  'no tracker': victim => rm(tracker(victim)),
  'a garbled tracker': victim => writeFile(tracker(victim), ['', 'iter_1', '1\0\0', '-1', '1e9'][victim.random(5)]!),
  'a tracker for an iteration that is not there': victim => writeFile(tracker(victim), '200'),
  'a tracker ahead of an interrupted save': async victim => {
    await mkdir(join(victim.megatron, 'iter_0000200', 'mp_rank_00_000'), { recursive: true })
    await writeFile(tracker(victim), '200')
  },
  'a stale tracker': async victim => {
    await cp(join(victim.megatron, iteration), join(victim.megatron, 'iter_0000002'), { recursive: true })
    for (const stage of [0, 1, 2, 3])
      for (const tp of [0, 1])
        await rewriteShard(
          join(victim.megatron, 'iter_0000002', rankName(tp, stage), 'model_optim_rng.pt'),
          ({ top }) => void top.set('iteration', 2),
        )
    await rm(join(victim.megatron, 'iter_0000002', 'ascendflow-manifest.json'), { force: true })
  },
  'an iteration renamed': async victim => {
    await rename(join(victim.megatron, iteration), join(victim.megatron, 'iter_0000005'))
    await writeFile(tracker(victim), '5')
  },
  'a foreign file in the iteration': victim => writeFile(join(victim.megatron, iteration, 'pytorch_model.bin'), 'x'),
  'a foreign file in a rank folder': victim => writeFile(join(folder(victim, 1, 1), 'model_rng.pt'), 'x'),
  'a Hugging Face model in the same folder': victim => cp(victim.hf, victim.megatron, { recursive: true }),
  'an optimizer shard missing': async victim => {
    for (const stage of [0, 1, 2, 3])
      for (const tp of [0, 1])
        if (tp !== 1 || stage !== 2) await writeFile(join(folder(victim, tp, stage), 'distrib_optim.pt'), 'x')
  },
  'an optimizer missing in one shard': async victim => {
    for (const stage of [0, 1, 2, 3])
      for (const tp of [0, 1])
        if (tp + stage > 0)
          await rewriteShard(shard(victim, tp, stage), ({ top }) => void top.set('optimizer', new Map([['step', 1]])))
  },
  'args of another model in one shard': victim => editOne(victim, ({ args }) => void args.set('num_layers', 8)),
  'args of another model in all shards': victim =>
    editAll(victim, ({ args }) => {
      for (const [field, value] of [
        ['hidden_size', 32],
        ['kv_channels', 4],
      ] as [string, PickleValue][])
        args.set(field, value)
    }),
  'args with other parallel sizes': victim =>
    editAll(victim, ({ args }) => void args.set('tensor_model_parallel_size', 4)),
  'args with another padded vocabulary': victim =>
    editAll(victim, ({ args }) => void args.set('padded_vocab_size', 24)),
  'padding of the vocabulary that repeats no row': victim =>
    rewriteShard(shard(victim, 1, 0), content => {
      const weight = weightOf(content, 'word_embeddings')
      weight.bytes.fill(0, weight.bytes.length - 32)
    }),
  'the vocabulary one row off': victim =>
    rewriteShard(shard(victim, 0, 0), content => {
      const weight = weightOf(content, 'word_embeddings')
      const rows = rowsOf(weight)
      setRows(weight, [rows.at(-1)!, ...rows.slice(0, -1)])
    }),
  'the output layer replaced by the embedding': async victim => {
    for (const tp of [0, 1]) {
      let bytes = new Uint8Array(0)
      await rewriteShard(shard(victim, tp, 0), content => {
        bytes = Uint8Array.from(weightOf(content, 'word_embeddings').bytes)
      })
      await rewriteShard(shard(victim, tp, 3), content => {
        weightOf(content, 'output_layer').bytes = bytes
      })
    }
  },
  'a truncated safetensors file': async victim => {
    const { size } = await stat(weights(victim))
    await truncate(weights(victim), size - 1 - victim.random(size >> 1))
  },
  'a bit of a safetensors header flipped': victim => flip(weights(victim), victim.random(500), victim.random(7)),
  'a bit of a safetensors weight flipped': async victim => {
    const { size } = await stat(weights(victim))
    await flip(weights(victim), size - 1 - victim.random(20_000), victim.random(8))
  },
  'safetensors under the name of another type': victim =>
    editHf(victim, header => {
      for (const tensor of Object.values(header)) if (tensor.dtype === 'BF16') tensor.dtype = 'F16'
    }),
  'two Hugging Face tensors under swapped names': victim =>
    editHf(victim, header => {
      const [a, b] = ['model.layers.1.mlp.gate_proj.weight', 'model.layers.1.mlp.up_proj.weight'] as const
      ;[header[a], header[b]] = [header[b]!, header[a]!]
    }),
  'a tensor missing in the model': victim =>
    editHf(victim, header => {
      header['model.layers.1.mlp.other.weight'] = header['model.layers.1.mlp.up_proj.weight']!
      delete header['model.layers.1.mlp.up_proj.weight']
    }),
  'a shard of an earlier model beside the weights': victim =>
    cp(weights(victim), join(victim.hf, 'model-00001-of-00002.safetensors')),
  'a config.json of another model': async victim => {
    const path = join(victim.hf, 'config.json')
    const config = JSON.parse(await readFile(path, 'utf8'))
    await writeFile(path, JSON.stringify({ ...config, num_hidden_layers: 5 }))
  },
}
