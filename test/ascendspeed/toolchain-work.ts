import {
  hfToMegatronCommand,
  megatronToHfCommand,
  type ToolchainHfToMegatron,
} from '../../src/ascendspeed/conversion-arguments.ts'
import { type Generation, generationFacts } from '../../src/ascendspeed/generations.ts'
import { preprocessCommand } from '../../src/ascendspeed/preprocess-arguments.ts'
import type { Toolchain, ToolchainCommand } from '../../src/ascendspeed/toolchain.ts'
import { type ToolchainTraining, trainCommand } from '../../src/ascendspeed/training-arguments.ts'
import { loraTargets } from '../../src/models/lora-rules.ts'
import { findModel } from '../../src/models/supported-model.ts'

/** tp, pp, nodes, devices of a node: table 2 of the guide for 4096 tokens, but for glm3-6b, which has 2 query groups. */
export const layouts: Readonly<Record<string, readonly [tp: number, pp: number, nodes: number, devices: number]>> = {
  ...{ 'llama2-7b': [4, 1, 1, 4], 'llama2-13b': [8, 1, 1, 8], 'llama2-70b': [8, 4, 4, 8] },
  ...{ 'llama3-8b': [4, 1, 1, 4], 'llama3-70b': [8, 4, 4, 8] },
  ...{ 'qwen-7b': [4, 1, 1, 4], 'qwen-14b': [8, 1, 1, 8], 'qwen-72b': [8, 4, 4, 8] },
  ...{
    'qwen1.5-7b': [4, 1, 1, 4],
    'qwen1.5-14b': [8, 1, 1, 8],
    'qwen1.5-32b': [8, 2, 2, 8],
    'qwen1.5-72b': [8, 4, 4, 8],
  },
  ...{ 'yi-6b': [4, 1, 1, 4], 'yi-34b': [8, 2, 2, 8], 'glm3-6b': [2, 1, 1, 4], 'baichuan2-13b': [8, 1, 1, 8] },
  ...{ 'qwen2-0.5b': [1, 1, 1, 4], 'qwen2-1.5b': [1, 1, 1, 4], 'qwen2-7b': [4, 1, 1, 4], 'qwen2-72b': [8, 4, 4, 8] },
  ...{ 'glm4-9b': [2, 2, 1, 8] },
}

/** The commands of every kind of work on one model, with the defaults of the guide. */
export const works = [
  'pretrain',
  'sft',
  'lora',
  'text',
  'instructions',
  'hfToMegatron',
  'megatronToHf',
  'merge',
] as const

/** One command for a model, on a checkout in /toolchain; `root` is put before all other paths. */
export function toolchainWork(
  id: string,
  generation: Generation,
  work: (typeof works)[number],
  root = '',
): ToolchainCommand {
  const toolchain: Toolchain = { generation, dir: '/toolchain' }
  const { architecture } = findModel(id)
  const conversion = { architecture, parallel: parallelOf(id), layout: layoutOf(id, generation) }
  const lora = { path: `${root}/lora`, r: 16, alpha: 32, targets: loraTargets }
  switch (work) {
    case 'text':
    case 'instructions':
      return preprocessCommand(toolchain, {
        ...{
          input: `${root}/data/alpaca`,
          tokenizer: `${root}/hf`,
          outputPrefix: `${root}/out/alpaca`,
          seqLength: 4096,
        },
        ...(work === 'text' ? {} : { handler: 'GeneralInstructionHandler', appendEod: true }),
      })
    case 'hfToMegatron':
      return hfToMegatronCommand(toolchain, {
        ...conversion,
        model: `${root}/hf`,
        save: `${root}/mg`,
      } satisfies ToolchainHfToMegatron)
    case 'megatronToHf':
    case 'merge':
      return megatronToHfCommand(toolchain, {
        ...{ ...conversion, load: `${root}/mg`, save: `${root}/export`, lora: work === 'merge' ? lora : undefined },
      })
    default:
      return trainCommand(toolchain, { ...trainingOf(id, generation, root), ...trainings(root)[work] })
  }
}

const parallelOf = (id: string) => ({ tp: layouts[id]![0], pp: layouts[id]![1] })

/** As the toolchain's own scripts for the model have it, where the generation has a choice. */
const layoutOf = (id: string, generation: Generation) =>
  generation === 'mindspeed-llm' || generationFacts[generation].layouts.length > 1
    ? findModel(id).layout
    : generationFacts[generation].layouts[0]!

const lora = { r: 16, alpha: 32, targets: loraTargets }
function trainings(root: string) {
  const data = { path: `${root}/data/alpaca`, instruction: true }
  return { pretrain: {}, sft: { data }, lora: { data, lora } }
}

/** Pretraining with the guide's values for llama2-13b. */
export function trainingOf(id: string, generation: Generation, root = ''): ToolchainTraining {
  const [, , nodes, devicesPerNode] = layouts[id]!
  return {
    ...{ architecture: findModel(id).architecture, layout: layoutOf(id, generation), parallel: parallelOf(id) },
    ...{ nodes, devicesPerNode, data: { path: `${root}/data/alpaca_text_document`, instruction: false } },
    ...{
      tokenizer: `${root}/hf`,
      dataCache: `${root}/cache`,
      load: `${root}/mg`,
      save: `${root}/save`,
      seqLength: 4096,
      microBatchSize: 4,
      globalBatchSize: 512,
    },
    ...{ trainIters: 10, lr: 2.5e-5, minLr: 2.5e-6, lrDecayStyle: 'cosine', lrWarmupFraction: 0.01, weightDecay: 0.1 },
    ...{ clipGrad: 1, adamBeta1: 0.9, adamBeta2: 0.95, seed: 1234, dtype: 'bf16', saveInterval: 10, logInterval: 1 },
  }
}
