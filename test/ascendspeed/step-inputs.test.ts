import { describe, expect, it } from 'vitest'
import { hfToMegatronCommand, megatronToHfCommand } from '../../src/ascendspeed/conversion-arguments.ts'
import { preprocessCommand } from '../../src/ascendspeed/preprocess-arguments.ts'
import { shellScripts } from '../../src/ascendspeed/shell-scripts.ts'
import { hfToMegatronOf, megatronToHfOf, preprocessingOf, trainingOfStep } from '../../src/ascendspeed/step-inputs.ts'
import { trainCommand } from '../../src/ascendspeed/training-arguments.ts'
import { loraTargets } from '../../src/models/lora-rules.ts'
import { findModel } from '../../src/models/supported-model.ts'
import type { MegatronCheckpoint, MegatronDataset } from '../../src/steps/artifacts.ts'
import { PreprocessInput } from '../../src/steps/preprocess-input.ts'
import { TrainInput } from '../../src/steps/train-input.ts'

const toolchain = { generation: 'modellink-rc3', dir: '/opt/ModelLink' } as const
const { architecture } = findModel('qwen2-7b')
const model = { kind: 'hf-model', path: '/hf' } as const
const init: MegatronCheckpoint = {
  ...{ kind: 'megatron-checkpoint', path: '/mg', iteration: 1, tp: 4, pp: 2, layout: 'mcore', architecture },
}
const data: MegatronDataset = {
  ...{ kind: 'megatron-dataset', path: '/data/a', instruction: true, samples: 1000, tokens: 100000, vocabSize: 151646 },
}
const preprocess = {
  ...{ corpus: { kind: 'corpus', path: '/data/a.jsonl', textKey: 'body' } as const, tokenizer: model, seqLength: 4096 },
}
const train = { data, init, seqLength: 4096, globalBatchSize: 64, lr: 1e-5 }

describe('the inputs of the four steps', () => {
  it('are enough for commands of the toolchain and scripts of them', () => {
    const prepared = preprocessCommand(toolchain, preprocessingOf(PreprocessInput.parse(preprocess), '/data/a'))
    const converted = hfToMegatronCommand(
      toolchain,
      hfToMegatronOf({ model, parallel: init, layout: 'mcore' }, { architecture, save: '/mg' }),
    )
    const facts = { tokenizer: '/hf', save: '/save', trainIters: 15, saveInterval: 10 }
    const trained = trainCommand(toolchain, trainingOfStep(TrainInput.parse(train), facts))
    const exported = megatronToHfCommand(toolchain, megatronToHfOf({ checkpoint: init }, { save: '/copy' }))
    const text = shellScripts([
      { name: 'preprocess', launch: prepared },
      { name: 'hfToMegatron', launch: converted },
      { name: 'train', launch: trained },
      { name: 'megatronToHf', launch: exported },
    ])
    expect(text.map(({ name }) => name)).toEqual([
      ...['0_run_all.sh', '1_preprocess.sh', '2_hfToMegatron.sh', '3_train.sh', '4_megatronToHf.sh'],
    ])
    expect(text[1]!.text).toContain('--json-keys body')
    expect(text[2]!.text).toContain('TP=4\nPP=2\n')
    expect(text[3]!.text).toContain('GPUS_PER_NODE=8\nTP=4\nPP=2\n')
    expect(text[3]!.text).toContain('--is-instruction-dataset')
    expect(exported.output).toBe('/copy/mg2hf')
  })

  it('put adapters over their base', () => {
    const checkpoint = { ...init, path: '/adapters', loraBase: init }
    const lora = { r: 8, alpha: 16, targets: loraTargets }
    const options = megatronToHfOf({ checkpoint }, { save: '/copy', lora })
    expect([options.load, options.lora?.path]).toEqual(['/mg', '/adapters'])
    expect(() => megatronToHfOf({ checkpoint }, { save: '/copy' })).toThrow(/their rank, alpha and targets are needed/)
  })

  it.each([
    [{ overflow: 'split' }, /no overflow: 'split'/],
    [{ pack: true }, /no pack/],
    [{ validation: 0.1 }, /no validation/],
    [{ onBadRow: 'skip' }, /no onBadRow: 'skip'/],
    [{ corpus: [{ corpus: preprocess.corpus }, { corpus: preprocess.corpus }] }, /no 2 corpora/],
  ])('of preprocess refuse %j, which the toolchain has not', (changes, message) => {
    const input = PreprocessInput.parse({ ...preprocess, ...changes })
    expect(() => preprocessingOf(input, '/out/a')).toThrow(message)
  })

  it('refuse float32 and validation data without a plan for it', () => {
    const facts = { tokenizer: '/hf', save: '/save', trainIters: 15, saveInterval: 10 }
    expect(() => trainingOfStep(TrainInput.parse({ ...train, dtype: 'fp32' }), facts)).toThrow(/bf16 or fp16, not fp32/)
    const validation = { ...data, instruction: false }
    expect(() => trainingOfStep(TrainInput.parse({ ...train, validation }), facts)).toThrow(/Validation data needs/)
  })
})
