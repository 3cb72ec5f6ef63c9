import { randomBytes } from 'node:crypto'
import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TensorInfo } from 'ascendflow/formats'
import { indexText, shareOut } from '../../src/checkpoint/write-hf-model.ts'
import { tensorBytes } from '../../src/formats/tensor.ts'

/** The numbers of a Llama. */
export interface LlamaShape {
  readonly layers: number
  readonly hidden: number
  readonly ffn: number
  readonly heads: number
  readonly groups: number
  readonly vocab: number
}

export const llamaShapes: Readonly<Record<string, LlamaShape>> = {
  '7B': { layers: 32, hidden: 4096, ffn: 11008, heads: 32, groups: 32, vocab: 32_000 },
  '13B': { layers: 40, hidden: 5120, ffn: 13824, heads: 40, groups: 40, vocab: 32_000 },
  '70B': { layers: 80, hidden: 8192, ffn: 28672, heads: 64, groups: 8, vocab: 32_000 },
}

/** Bytes of the weights in bf16. */
export function weightBytes(shape: LlamaShape): number {
  return tensorsOf(shape).reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
}

/**
 * A Llama in bf16, in shards of at most `maxShardBytes` as ours are: of random bytes, or with nothing
 * behind the headers but a hole.
 */
export async function makeLlama(
  dir: string,
  shape: LlamaShape,
  { content, maxShardBytes }: { content: 'random' | 'hole'; maxShardBytes: number },
): Promise<void> {
  const { layers, hidden, ffn, heads, groups, vocab } = shape
  await mkdir(dir)
  const config = {
    ...{ architectures: ['LlamaForCausalLM'], model_type: 'llama', hidden_size: hidden, intermediate_size: ffn },
    ...{ num_hidden_layers: layers, num_attention_heads: heads, num_key_value_heads: groups, vocab_size: vocab },
    ...{ max_position_embeddings: 4096, rms_norm_eps: 1e-5, torch_dtype: 'bfloat16', tie_word_embeddings: false },
  }
  await writeFile(join(dir, 'config.json'), JSON.stringify(config))
  const tensors = new Map(tensorsOf(shape).map(tensor => [tensor.name, tensor]))
  const shards = shareOut(tensors, maxShardBytes)
  for (const shard of shards) await writeShard(join(dir, shard.file), shard.tensors, content)
  if (shards.length > 1)
    await writeFile(join(dir, 'model.safetensors.index.json'), indexText(shards, weightBytes(shape)))
}

async function writeShard(path: string, unsorted: readonly TensorInfo[], content: 'random' | 'hole'): Promise<void> {
  const tensors = [...unsorted].sort((a, b) => (a.name < b.name ? -1 : 1))
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  let end = 0
  for (const tensor of tensors) {
    const start = end
    end += tensorBytes(tensor)
    header[tensor.name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [start, end] }
  }
  const json = Buffer.from(JSON.stringify(header))
  const head = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  head.writeBigUInt64LE(BigInt(head.length - 8))
  json.copy(head, 8)
  const file = await open(path, 'wx')
  await file.write(head)
  if (content === 'hole') await file.truncate(head.length + end)
  else {
    const block = 1 << 21
    const noise = randomBytes(2 * block)
    for (let done = 0; done < end; done += block)
      await file.write(noise, ((done / block) * 4099) % block, Math.min(block, end - done))
  }
  await file.close()
}

// In the order in which ours shares tensors out to shards.
function tensorsOf({ layers, hidden, ffn, heads, groups, vocab }: LlamaShape): TensorInfo[] {
  const tensor = (name: string, ...shape: number[]): TensorInfo => ({ name, dtype: 'BF16', shape })
  const kv = (hidden / heads) * groups
  return [
    tensor('model.embed_tokens.weight', vocab, hidden),
    ...Array.from({ length: layers }, (_, i) => `model.layers.${i}`).flatMap(layer => [
      ...[
        tensor(`${layer}.input_layernorm.weight`, hidden),
        tensor(`${layer}.self_attn.q_proj.weight`, hidden, hidden),
      ],
      ...['k', 'v'].map(name => tensor(`${layer}.self_attn.${name}_proj.weight`, kv, hidden)),
      tensor(`${layer}.self_attn.o_proj.weight`, hidden, hidden),
      tensor(`${layer}.post_attention_layernorm.weight`, hidden),
      ...['gate', 'up'].map(name => tensor(`${layer}.mlp.${name}_proj.weight`, ffn, hidden)),
      tensor(`${layer}.mlp.down_proj.weight`, hidden, ffn),
    ]),
    ...[tensor('model.norm.weight', hidden), tensor('lm_head.weight', vocab, hidden)],
  ]
}
