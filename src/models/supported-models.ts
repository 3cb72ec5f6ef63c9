import type { Architecture } from './architecture.ts'
import { type RecommendedLayout, recommendedLayouts } from './recommended-layouts.ts'

/** A model of the vendor's guide. */
export interface SupportedModel {
  /** As in the guide: `llama2-13b`, `qwen1.5-32b`, `glm3-6b`, … */
  readonly id: string
  /** The guide's name for the series: `llama2`, `Qwen1.5`, `ChatGLMv3`, … */
  readonly series: string
  /** Addresses of the weights, the recommended one first. */
  readonly huggingFace: readonly string[]
  /** What its `config.json` says, in the newest revision of the first address; see `checkModel`. */
  readonly architecture: Architecture
  readonly tokenizer: TokenizerFacts
  /** The state dict that the toolchain's own scripts for it use. */
  readonly layout: 'legacy' | 'mcore'
  /** Empty where the guide recommends none. */
  readonly recommendedLayouts: readonly RecommendedLayout[]
  /** What Megatron's model does not compute as the original does. */
  readonly deviation?: string
}

/** What the toolchain's scripts tell it about a model's tokenizer. */
export interface TokenizerFacts {
  /** The file that has the vocabulary. */
  readonly file: 'tokenizer.model' | 'tokenizer.json' | 'qwen.tiktoken'
  /** `--tokenizer-type`. */
  readonly type: 'Llama2Tokenizer' | 'PretrainedFromHF'
  /** Further flags of training: what the files lack, and the size of the embedding where the tokenizer is smaller. */
  readonly flags: readonly string[]
}

type Numbers = readonly [layers: number, hidden: number, ffn: number, heads: number, groups: number, vocab: number]

/**
 * The guide's table 1 (models 17 to 21 are in its newer edition alone), with numbers from the published `config.json`
 * files and flags from ModelLink's examples (1.1: rows 1 to 16; master: rows 17 to 21).
 */
export const supportedModels: readonly SupportedModel[] = [
  llama2('7b', ['meta-llama/Llama-2-7b-chat-hf'], [32, 4096, 11008, 32, 32, 32000]),
  llama2('13b', ['meta-llama/Llama-2-13b-chat-hf'], [40, 5120, 13824, 40, 40, 32000]),
  llama2('70b', ['meta-llama/Llama-2-70b-chat-hf', 'meta-llama/Llama-2-70b-hf'], [80, 8192, 28672, 64, 8, 32000]),
  llama3('8b', 'meta-llama/Meta-Llama-3-8B-Instruct', [32, 4096, 14336, 32, 8, 128256]),
  llama3('70b', 'meta-llama/Meta-Llama-3-70B-Instruct', [80, 8192, 28672, 64, 8, 128256]),
  qwen('7b', [32, 4096, 11008, 32, 32, 151936], { divisor: 16, maxPositionEmbeddings: 32768 }),
  qwen('14b', [40, 5120, 13696, 40, 40, 152064], { divisor: 32, maxPositionEmbeddings: 8192 }),
  qwen('72b', [80, 8192, 24576, 64, 64, 152064], { divisor: 64, maxPositionEmbeddings: 32768, rotaryBase: 1e6 }),
  qwen2('Qwen1.5', '7b', [32, 4096, 11008, 32, 32, 151936]),
  qwen2('Qwen1.5', '14b', [40, 5120, 13696, 40, 40, 152064]),
  qwen2('Qwen1.5', '32b', [64, 5120, 27392, 40, 8, 152064]),
  qwen2('Qwen1.5', '72b', [80, 8192, 24576, 64, 64, 152064]),
  yi('6b', [32, 4096, 11008, 32, 4, 64000]),
  yi('34b', [60, 7168, 20480, 56, 8, 64000]),
  glm('glm3-6b', 'ChatGLMv3', 'THUDM/chatglm3-6b', [28, 4096, 13696, 32, 2, 65024], {
    maxPositionEmbeddings: 8192,
    normEpsilon: 1e-5,
    rotaryBase: 1e4,
  }),
  {
    ...model('baichuan2-13b', 'Baichuan2', ['baichuan-inc/Baichuan2-13B-Chat']),
    architecture: {
      ...architecture('baichuan', [40, 5120, 13696, 40, 40, 125696]),
      ...{ maxPositionEmbeddings: 4096, normEpsilon: 1e-6, alibi: true },
    },
    tokenizer: { file: 'tokenizer.model', type: 'Llama2Tokenizer', flags: ['--make-vocab-size-divisible-by', '32'] },
    deviation: 'The original normalises the rows of its output layer (NormHead); Megatron has it as a plain layer.',
  },
  qwen2('Qwen2', '0.5b', [24, 896, 4864, 14, 2, 151936], { tiedEmbeddings: true }),
  qwen2('Qwen2', '1.5b', [28, 1536, 8960, 12, 2, 151936], { tiedEmbeddings: true }),
  qwen2('Qwen2', '7b', [28, 3584, 18944, 28, 4, 152064]),
  qwen2('Qwen2', '72b', [80, 8192, 29568, 64, 8, 152064]),
  glm('glm4-9b', 'GLMv4', 'THUDM/glm-4-9b-chat', [40, 4096, 13696, 32, 2, 151552], {
    maxPositionEmbeddings: 131072,
    normEpsilon: 1.5625e-7,
    rotaryBase: 5e6,
  }),
]

function llama2(size: string, repositories: readonly string[], numbers: Numbers): SupportedModel {
  return {
    ...model(`llama2-${size}`, 'llama2', repositories),
    architecture: architecture('llama', numbers),
    tokenizer: {
      file: 'tokenizer.model',
      type: 'Llama2Tokenizer',
      flags: ['--make-vocab-size-divisible-by', '1'],
    },
  }
}

function llama3(size: string, repository: string, numbers: Numbers): SupportedModel {
  return {
    ...model(`llama3-${size}`, 'llama3', [repository]),
    architecture: { ...architecture('llama', numbers), maxPositionEmbeddings: 8192, rotaryBase: 5e5 },
    tokenizer: { ...fromHf('tokenizer.json'), flags: ['--make-vocab-size-divisible-by', '16032'] },
  }
}

function qwen(
  size: string,
  numbers: Numbers,
  { divisor, ...rest }: { divisor: number } & Partial<Architecture>,
): SupportedModel {
  return {
    ...model(`qwen-${size}`, 'Qwen', [`Qwen/Qwen-${size.toUpperCase()}-Chat`]),
    architecture: { ...architecture('qwen', numbers), normEpsilon: 1e-6, addQkvBias: true, ...rest },
    tokenizer: {
      ...fromHf('qwen.tiktoken'),
      flags: [
        ...['--tokenizer-kwargs', 'eos_token', '<|endoftext|>', 'pad_token', '<|extra_0|>'],
        ...['--make-vocab-size-divisible-by', `${divisor}`],
      ],
    },
  }
}

function qwen2(
  series: 'Qwen1.5' | 'Qwen2',
  size: string,
  numbers: Numbers,
  rest: Partial<Architecture> = {},
): SupportedModel {
  const edition = series === 'Qwen2' ? 'Instruct' : 'Chat'
  return {
    ...model(`${series.toLowerCase()}-${size}`, series, [`Qwen/${series}-${size.toUpperCase()}-${edition}`]),
    architecture: {
      ...architecture('qwen2', numbers),
      ...{ maxPositionEmbeddings: 32768, normEpsilon: 1e-6, rotaryBase: 1e6, addQkvBias: true, ...rest },
    },
    tokenizer: { ...fromHf('tokenizer.json'), flags: ['--padded-vocab-size', `${numbers[5]}`] },
    layout: series === 'Qwen2' ? 'mcore' : 'legacy',
  }
}

function yi(size: string, numbers: Numbers): SupportedModel {
  return {
    ...model(`yi-${size}`, 'Yi', [`01-ai/Yi-${size.toUpperCase()}-Chat`]),
    architecture: { ...architecture('llama', numbers), rotaryBase: 5e6 },
    tokenizer: {
      ...{ file: 'tokenizer.model', type: 'Llama2Tokenizer' },
      flags: ['--tokenizer-not-use-fast', '--make-vocab-size-divisible-by', '1'],
    },
  }
}

function glm(
  id: string,
  series: string,
  repository: string,
  numbers: Numbers,
  rest: Partial<Architecture>,
): SupportedModel {
  return {
    ...model(id, series, [repository]),
    architecture: { ...architecture('chatglm', numbers), addQkvBias: true, rotaryPercent: 0.5, ...rest },
    tokenizer: { ...fromHf('tokenizer.model'), flags: ['--padded-vocab-size', `${numbers[5]}`] },
    layout: id === 'glm4-9b' ? 'mcore' : 'legacy',
  }
}

type Common = Pick<SupportedModel, 'id' | 'series' | 'huggingFace' | 'layout' | 'recommendedLayouts'>

function model(id: string, series: string, repositories: readonly string[]): Common {
  const huggingFace = repositories.map(name => `https://huggingface.co/${name}`)
  return { id, series, huggingFace, layout: 'legacy', recommendedLayouts: recommendedLayouts[id] ?? [] }
}

// What most have in common; the head's width is 128 but for qwen2-0.5b, hidden size by heads throughout.
function architecture(family: string, [layers, hidden, ffn, heads, groups, vocab]: Numbers): Architecture {
  return {
    family,
    ...{ numLayers: layers, hiddenSize: hidden, ffnHiddenSize: ffn, numAttentionHeads: heads, numQueryGroups: groups },
    ...{ kvChannels: hidden / heads, vocabSize: vocab, maxPositionEmbeddings: 4096, normEpsilon: 1e-5 },
    ...{ rotaryBase: 1e4, tiedEmbeddings: false, addQkvBias: false },
  }
}

function fromHf<const File extends TokenizerFacts['file']>(file: File) {
  return { file, type: 'PretrainedFromHF' } as const
}
