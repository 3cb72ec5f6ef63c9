import { type GuideParameters, guideParameters } from 'ascendflow'
import { describe, expect, it } from 'vitest'

describe('guideParameters', () => {
  // Table 1 of the guide's page on the training scripts, llama2-13b.
  const example = {
    ...{ parallel: { tp: 8, pp: 1 }, microBatchSize: 4, globalBatchSize: 512, lr: 2.5e-5, minLr: 2.5e-6 },
    ...{ seqLength: 4096, maxPositionEmbeddings: 8192, seed: 1234 },
  }

  it("are the guide's example where nothing is given", () => {
    expect(guideParameters()).toEqual({ ...example, epochs: 5 })
  })

  it('take what is given, and iterations instead of epochs', () => {
    expect(guideParameters({ TP: 4, SN: 52_000, EPOCH: 3 })).toEqual({
      ...{ ...example, parallel: { tp: 4, pp: 1 }, epochs: 3 },
    })
    expect(guideParameters({ TRAIN_ITERS: 100 })).toEqual({ ...example, trainIters: 100 })
  })

  it('refuse a name that the guide does not have', () => {
    expect(() => guideParameters({ SEQLEN: 4096 } as GuideParameters)).toThrow('SEQLEN is no parameter of the guide')
  })
})
