import { describe, expect, it } from 'vitest'
import { hfToMegatronCommand, megatronToHfCommand } from '../../src/ascendspeed/conversion-arguments.ts'
import { splitFlags, wordText } from '../../src/ascendspeed/flag-words.ts'
import type { Generation } from '../../src/ascendspeed/generations.ts'
import { acceptedFlags } from '../../src/ascendspeed/parsers.ts'
import { preprocessCommand } from '../../src/ascendspeed/preprocess-arguments.ts'
import { trainCommand } from '../../src/ascendspeed/training-arguments.ts'
import { loraTargets } from '../../src/models/lora-rules.ts'
import { findModel } from '../../src/models/supported-model.ts'
import { toolchainWork, trainingOf } from './toolchain-work.ts'

const toolchain = (generation: Generation) => ({ generation, dir: '/toolchain' })
const flagsOf = ({ argv }: { readonly argv: Parameters<typeof splitFlags>[0] }) =>
  new Map(splitFlags(argv).map(({ flag, values }) => [flag, values.map(wordText).join(' ')]))

/** ModelLink 1.1's flags for pretraining llama2-13b, from examples/llama2/pretrain_llama2_13B_ptd_8p.sh. */
const llama2Flags = `tensor-model-parallel-size pipeline-model-parallel-size sequence-parallel num-layers hidden-size
  ffn-hidden-size num-attention-heads tokenizer-type tokenizer-model seq-length max-position-embeddings micro-batch-size
  global-batch-size make-vocab-size-divisible-by lr train-iters lr-decay-style untie-embeddings-and-output-weights
  disable-bias-linear attention-dropout init-method-std hidden-dropout position-embedding-type normalization
  use-fused-rmsnorm swiglu use-flash-attn no-masked-softmax-fusion attention-softmax-in-fp32 min-lr weight-decay
  lr-warmup-fraction clip-grad adam-beta1 initial-loss-scale adam-beta2 no-gradient-accumulation-fusion load
  no-load-optim no-load-rng use-fused-swiglu use-fused-rotary-pos-emb use-mc2 bf16 data-path split log-interval
  save-interval eval-interval eval-iters distributed-backend jit-compile save`.split(/\s+/)

describe('trainCommand', () => {
  it('says what ModelLink 1.1 says in its example for llama2-13b, but for what is listed here', () => {
    const ours = [...flagsOf(toolchainWork('llama2-13b', 'modellink-1.1', 'pretrain')).keys()].slice(5)
    expect(llama2Flags.filter(flag => !ours.includes(`--${flag}`))).toEqual([
      'tokenizer-model', // The folder is given instead (--tokenizer-name-or-path).
      'initial-loss-scale', // Of fp16 alone.
      'use-mc2', // Without effect in 1.1.
      'eval-interval', // Nothing is evaluated.
      'jit-compile', // A choice: extraArgs.
    ])
    expect(ours.filter(flag => !llama2Flags.includes(flag.slice(2)))).toEqual([
      ...['--norm-epsilon', '--padded-vocab-size', '--tokenizer-name-or-path', '--data-cache-path', '--seed'],
      ...['--finetune', '--exit-on-missing-checkpoint', '--log-throughput'],
    ])
  })

  it('goes on from its own checkpoints, with their optimizer', () => {
    const training = { ...trainingOf('llama2-13b', 'modellink-1.1'), resume: true }
    const flags = flagsOf(trainCommand(toolchain('modellink-1.1'), training))
    expect(flags.get('--load')).toBe('/save')
    for (const flag of ['--finetune', '--no-load-optim', '--no-load-rng']) expect(flags.has(flag)).toBe(false)
  })

  it('goes on with adapters over their base', () => {
    const lora = { r: 8, alpha: 16, targets: loraTargets.slice(0, 1) }
    const training = { ...trainingOf('glm4-9b', 'modellink-rc3'), lora, resume: true }
    const flags = flagsOf(trainCommand(toolchain('modellink-rc3'), training))
    expect([flags.get('--load'), flags.get('--lora-load'), flags.has('--finetune')]).toEqual(['/mg', '/save', false])
    expect(flags.get('--lora-target-modules')).toBe('linear_qkv')
  })

  it('tells Megatron of tp query groups where the model has fewer', () => {
    const training = { ...trainingOf('glm3-6b', 'modellink-1.1'), parallel: { tp: 4, pp: 1 } }
    expect(flagsOf(trainCommand(toolchain('modellink-1.1'), training)).get('--num-query-groups')).toBe('4')
  })

  it('names validation data and nodes without shared files', () => {
    const validation = { path: '/data/valid_text_document', evalInterval: 100, evalIters: 3 }
    const training = { ...trainingOf('yi-34b', 'modellink-1.1'), validation, sharedStorage: false }
    const flags = flagsOf(trainCommand(toolchain('modellink-1.1'), training))
    expect(flags.get('--valid-data-path')).toBe('/data/valid_text_document')
    expect([flags.has('--data-path'), flags.has('--split')]).toEqual([false, false])
    expect(flags.has('--no-shared-storage')).toBe(true)
  })

  it.each<[string, Generation, object, RegExp]>([
    ['glm3-6b', 'modellink-1.0', {}, /ModelLink 1\.0 does not know chatglm models/],
    ['glm4-9b', 'modellink-1.1', {}, /ModelLink 1\.1 does not know GLM4/],
    ['glm4-9b', 'modellink-rc3', { layout: 'legacy' }, /knows GLM4 with mcore checkpoints only/],
    ['llama2-7b', 'modellink-1.1', { layout: 'mcore' }, /has no mcore checkpoints/],
    ['llama2-7b', 'modellink-1.1', { promptType: 'llama2' }, /knows no promptType/],
    ['llama2-7b', 'modellink-1.1', { seqLength: 8192 }, /seqLength 8192 is more than 4096 positions/],
    ['llama2-7b', 'modellink-1.1', { parallel: { tp: 3, pp: 1 } }, /tp 3 does not divide/],
    ['llama2-7b', 'modellink-1.1', { lora: { r: 8, alpha: 0.5, targets: loraTargets } }, /takes whole numbers/],
    [
      ...(['llama2-7b', 'modellink-1.1'] as const),
      {
        data: { path: '/d', instruction: true },
        validation: { path: '/v', evalInterval: 1, evalIters: 1 },
      },
      /cannot measure instruction training/,
    ],
  ])('refuses %s on %s with %j', (id, generation, changes, message) => {
    const training = { ...trainingOf(id, generation), ...changes }
    expect(() => trainCommand(toolchain(generation), training)).toThrow(message)
  })
})

describe('the converters', () => {
  const conversion = (id: string, parallel = { tp: 2, pp: 1 }) => ({
    ...{ architecture: findModel(id).architecture, parallel, layout: 'legacy' as const },
    ...{ model: '/hf', save: '/out', load: '/mg' },
  })

  it('raise the queue above the messages of a deep model, and cut padding off again', () => {
    const into = flagsOf(hfToMegatronCommand(toolchain('modellink-1.1'), conversion('llama2-70b', { tp: 8, pp: 4 })))
    expect(into.get('--max-queue-size')).toBe('85')
    const odd = conversion('llama2-7b')
    const architecture = { ...odd.architecture, vocabSize: 32001 }
    const out = megatronToHfCommand(toolchain('modellink-1.1'), { ...odd, architecture })
    expect(flagsOf(out).get('--true-vocab-size')).toBe('32001')
    expect(out.output).toBe('/out/mg2hg')
    expect(() => megatronToHfCommand(toolchain('modellink-rc3'), { ...odd, architecture })).toThrow(
      /RC3's converter cannot export 32002 rows of a vocabulary of 32001/,
    )
  })

  it.each<[Generation, object, RegExp]>([
    ['modellink-1.0', { parallel: { tp: 1, pp: 4, layersPerVirtualStage: 2 } }, /knows no --num-layers-per-virtual/],
    ['modellink-1.1', { parallel: { tp: 1, pp: 2, layersPerStage: [15, 17] } }, /knows no --num-layer-list here/],
    ['modellink-1.1', { architecture: findModel('glm3-6b').architecture, parallel: { tp: 4, pp: 1 } }, /query groups/],
    ['modellink-1.1', { architecture: findModel('qwen-7b').architecture, dtype: 'bf16' }, /stores qwen as fp16/],
    ['modellink-1.0', { architecture: findModel('qwen2-0.5b').architecture }, /gives every model an output layer/],
    ['modellink-rc3', { architecture: findModel('qwen-14b').architecture }, /every Qwen's ffn for 11008 wide/],
  ])('of %s refuses %j', (generation, changes, message) => {
    expect(() => hfToMegatronCommand(toolchain(generation), { ...conversion('llama2-7b'), ...changes })).toThrow(
      message,
    )
  })
})

describe('preprocessCommand', () => {
  const options = { input: '/data/a.jsonl', tokenizer: '/hf', outputPrefix: '/out/a' }

  it('names the template handlers’ options where they are known', () => {
    const templates = { handler: 'AlpacaStyleInstructionHandler', promptType: 'llama2', mapKeys: { prompt: 'q' } }
    const flags = flagsOf(preprocessCommand(toolchain('modellink-rc3'), { ...options, ...templates }))
    expect([flags.get('--prompt-type'), flags.get('--map-keys')]).toEqual(['llama2', '{"prompt":"q"}'])
  })

  it.each<[Generation, object, RegExp]>([
    ['modellink-1.1', { handler: 'AlpacaStyleInstructionHandler' }, /ModelLink 1\.1 knows no AlpacaStyle/],
    ['modellink-1.1', { promptType: 'qwen' }, /knows no promptType/],
    ['modellink-rc3', { handler: 'AlpacaStyleInstructionHandler' }, /needs a promptType/],
    ['modellink-rc3', { promptType: 'qwen' }, /promptType is for LlamaFactoryInstructionHandler/],
    ['modellink-1.1', { input: '/data/*.jsonl' }, /takes one file or folder/],
  ])('of %s refuses %j', (generation, changes, message) => {
    expect(() => preprocessCommand(toolchain(generation), { ...options, ...changes })).toThrow(message)
  })
})

describe('acceptedFlags', () => {
  it('knows what each generation added', () => {
    const sizes = (['modellink-1.0', 'modellink-1.1', 'modellink-rc3', 'mindspeed-llm'] as const).map(
      generation => acceptedFlags(generation, ['train']).size,
    )
    // The number of distinct `add_argument` names in the sources of each.
    expect(sizes).toEqual([293, 358, 461, 641])
    expect(acceptedFlags('modellink-1.1', ['convert']).get('--lora-dir')).toBe('text')
    expect(acceptedFlags('modellink-rc3', ['convert']).has('--lora-dir')).toBe(false)
    expect(acceptedFlags('modellink-rc3', ['train']).get('--lora-target-modules')).toBe('words')
  })
})
