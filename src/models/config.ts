import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { FormatError, UnsupportedError } from '../errors.ts'
import type { Architecture } from './architecture.ts'
import { type Family, findFamily } from './families.ts'

const count = z
  .int()
  .min(1)
  .max(2 ** 31)
// Beyond these a file is hostile: lists as long as the number are made.
const layers = z.int().min(1).max(10_000)
const heads = z.int().min(1).max(65_536)
const positive = z.number().gt(0)
const rope = z.object({ rope_theta: positive.nullish(), rope_type: z.string().nullish(), type: z.string().nullish() })

/** The keys of `config.json` that weights and attention depend on. */
const llamaConfig = z.object({
  num_hidden_layers: layers,
  hidden_size: count,
  intermediate_size: count,
  num_attention_heads: heads,
  num_key_value_heads: heads.nullish(),
  head_dim: count.nullish(),
  vocab_size: count,
  max_position_embeddings: count.nullish(),
  rms_norm_eps: positive.nullish(),
  rope_theta: positive.nullish(),
  rope_scaling: rope.nullish(),
  rope_parameters: rope.nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  hidden_act: z.string().nullish(),
  sliding_window: count.nullish(),
  use_sliding_window: z.boolean().nullish(),
})

/** The numbers in the `config.json` of a Hugging Face folder. */
export async function readArchitecture(dir: string): Promise<Architecture> {
  const file = join(dir, 'config.json')
  let json: unknown
  try {
    json = JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    const found = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file' : (cause as Error).message
    throw new FormatError({ file, expected: "a Hugging Face model's configuration", found, cause })
  }
  return architectureFromConfig(json, { file })
}

/**
 * The numbers in a parsed `config.json`. `model_type` chooses the family; absent keys take the family's defaults.
 *
 * @throws FormatError naming the key; UnsupportedError for other model types and for properties that no family has
 * (biases on other linear layers, other activations than SiLU).
 */
export function architectureFromConfig(json: unknown, options: { file?: string } = {}): Architecture {
  const { file = 'config.json' } = options
  const type = z.object({ model_type: z.string() }).safeParse(json)
  if (!type.success) throw new FormatError({ file, expected: 'a model_type', found: issueText(type.error) })
  const family = findFamily(type.data.model_type)
  const parsed = llamaConfig.safeParse(json)
  if (!parsed.success)
    throw new FormatError({
      file,
      expected: `the configuration of a ${family.name} model`,
      found: issueText(parsed.error),
    })
  return fromLlamaConfig(parsed.data, { family, file })
}

function fromLlamaConfig(config: z.infer<typeof llamaConfig>, context: { family: Family; file: string }): Architecture {
  const { family, file } = context
  const heads = config.num_attention_heads
  const groups = config.num_key_value_heads ?? heads
  if (heads % groups !== 0) {
    const expected = `num_attention_heads (${heads}) to be a multiple of num_key_value_heads`
    throw new FormatError({ file, expected, found: `${groups}` })
  }
  if (config.head_dim == null && config.hidden_size % heads !== 0) {
    const expected = `hidden_size (${config.hidden_size}) to be a multiple of num_attention_heads, or a head_dim`
    throw new FormatError({ file, expected, found: `${heads} heads` })
  }
  if (config.attention_bias === true) refuse(file, 'attention_bias is true: bias on every attention layer')
  if (config.mlp_bias === true) refuse(file, 'mlp_bias is true: bias on the feed-forward layers')
  if (config.hidden_act != null && config.hidden_act !== 'silu') refuse(file, `hidden_act is '${config.hidden_act}'`)
  const ropeType = [config.rope_scaling, config.rope_parameters]
    .map(it => it?.rope_type ?? it?.type)
    .find(it => it != null && it !== 'default')
  const window = (config.use_sliding_window ?? family.slidesByDefault) ? config.sliding_window : undefined
  return {
    family: family.name,
    numLayers: config.num_hidden_layers,
    hiddenSize: config.hidden_size,
    ffnHiddenSize: config.intermediate_size,
    numAttentionHeads: heads,
    numQueryGroups: groups,
    kvChannels: config.head_dim ?? config.hidden_size / heads,
    vocabSize: config.vocab_size,
    maxPositionEmbeddings: config.max_position_embeddings ?? family.defaults.maxPositionEmbeddings,
    normEpsilon: config.rms_norm_eps ?? family.defaults.normEpsilon,
    rotaryBase: config.rope_parameters?.rope_theta ?? config.rope_theta ?? family.defaults.rotaryBase,
    tiedEmbeddings: config.tie_word_embeddings ?? false,
    addQkvBias: family.addQkvBias,
    ...(ropeType == null ? {} : { ropeScaling: ropeType }),
    ...(window == null ? {} : { slidingWindow: window }),
  }
}

function refuse(file: string, what: string): never {
  throw new UnsupportedError(`${file}: ${what}, which the supported families do not have.`)
}

function issueText(error: z.ZodError): string {
  return error.issues.map(issue => `${issue.path.join('.') || 'the whole'}: ${issue.message}`).join('; ')
}
