import { describe, expect, it } from 'vitest'
import { splitFlags, wordText } from '../../src/ascendspeed/flag-words.ts'
import { generations } from '../../src/ascendspeed/generations.ts'
import { type ToolchainTraining, trainCommand } from '../../src/ascendspeed/training-arguments.ts'
import { loraTargets } from '../../src/models/lora-rules.ts'
import { models } from '../../src/models/supported-model.ts'
import { trainingOf } from './toolchain-work.ts'

const instructions = { path: '/data/alpaca', instruction: true }
const works = {
  pretrain: {},
  sft: { data: instructions },
  lora: { data: instructions, lora: { r: 16, alpha: 32, targets: loraTargets } },
} as const

/** GLM4 is known with mcore checkpoints only. */
const ids = models.map(({ id }) => id).filter(id => id !== 'glm4-9b')

/** Flags that only one of the two layouts' commands has, each with its words. */
function differences(id: string, generation: 'modellink-rc3' | 'mindspeed-llm', work: keyof typeof works) {
  const linesOf = (layout: 'legacy' | 'mcore') => {
    const training = { ...trainingOf(id, generation), ...works[work], layout }
    const { argv } = trainCommand({ generation, dir: '/toolchain' }, training)
    return splitFlags(argv).map(({ flag, values }) => [flag, ...values.map(wordText)].join(' '))
  }
  const [legacy, mcore] = [linesOf('legacy'), linesOf('mcore')]
  return [legacy.filter(line => !mcore.includes(line)), mcore.filter(line => !legacy.includes(line))]
}

// The names of LoRA's targets: docs of ModelLink 1.1 and RC3, examples/llama2/tune_llama2_7b_lora_ptd.sh and examples/mcore.
const targets = [
  '--lora-target-modules query_key_value dense dense_h_to_4h dense_4h_to_h',
  '--lora-target-modules linear_qkv linear_proj linear_fc1 linear_fc2',
]

describe.each(['modellink-rc3', 'mindspeed-llm'] as const)('trainings on %s', generation => {
  it.each(['pretrain', 'sft', 'lora'] as const)('differ between legacy and mcore in %s by what it takes', work => {
    for (const id of ids) {
      // examples/mcore/glm4/*.sh, which have partial RoPE as ChatGLM3 has.
      const glm = id === 'glm3-6b' ? ['--no-rope-fusion'] : []
      const lora = work === 'lora' ? targets.map(line => [line]) : [[], []]
      const [legacy, mcore] = differences(id, generation, work)
      expect([legacy, mcore?.toSorted()], id).toEqual([
        lora[0],
        ['--use-mcore-models', ...glm, ...(lora[1] ?? [])].toSorted(),
      ])
    }
  })
})

// Megatron-LM core_r0.6.0, arguments.py: recompute-* and use-distributed-optimizer; one layer a share is each by itself.
describe('what saves memory', () => {
  it.each<[Partial<ToolchainTraining>, readonly string[]]>([
    [{}, []],
    [{ recompute: 'none', distributedOptimizer: false }, []],
    [{ recompute: 'selective' }, ['--recompute-granularity selective']],
    [{ recompute: 'full' }, ['--recompute-granularity full', '--recompute-method uniform', '--recompute-num-layers 1']],
    [
      { recompute: 'full', recomputeNumLayers: 3 },
      ['--recompute-granularity full', '--recompute-method block', '--recompute-num-layers 3'],
    ],
    [{ distributedOptimizer: true }, ['--use-distributed-optimizer']],
    [{ parallel: { tp: 2, pp: 1, cp: 2 } }, ['--context-parallel-size 2']],
  ])('%j is said in the flags of the toolchain, in each generation', (more, expected) => {
    for (const generation of generations) {
      const training = { ...trainingOf('llama2-7b', generation), ...more }
      const lines = splitFlags(trainCommand({ generation, dir: '/toolchain' }, training).argv)
        .filter(({ flag }) => /recompute|distributed-optimizer|context-parallel/.test(flag))
        .map(({ flag, values }) => [flag, ...values.map(wordText)].join(' '))
      expect(lines.toSorted(), generation).toEqual([...expected].toSorted())
    }
  })
})
