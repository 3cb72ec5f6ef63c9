// What must and must not compile: `npm run types` reads this file; running it only checks that it loads.
import {
  type Corpus,
  corpus,
  defineStep,
  type EventOf,
  HfModel,
  hfModel,
  hfToMegatron,
  type In,
  type MegatronCheckpoint,
  MegatronDataset,
  megatronToHf,
  type Out,
  preprocess,
  type Ref,
  run,
  train,
} from 'ascendflow'
import { expect, expectTypeOf, it } from 'vitest'
import { z } from 'zod'

function pipeline(lrs: readonly number[]) {
  const base = hfModel('m')
  const data = preprocess({ corpus: corpus('d'), tokenizer: base })
  const init = hfToMegatron({ model: base, parallel: { tp: 2 } })
  const models = lrs.map(lr => train({ data, init, seqLength: 8, globalBatchSize: 2, lr }, { name: `train-${lr}` }))
  return { models: Object.fromEntries(models.map((model, i) => [`${i}`, model])), tokens: data.tokens }
}

function mustNotCompile(data: Ref<MegatronDataset>, init: Ref<MegatronCheckpoint>) {
  // @ts-expect-error a dataset is no checkpoint
  megatronToHf({ checkpoint: data, like: hfModel('m') })
  // @ts-expect-error a corpus is no model
  hfToMegatron({ model: corpus('d') })
  // @ts-expect-error a misspelt option
  train({ data, init, seqLenght: 8, globalBatchSize: 2, lr: 1 })
  // @ts-expect-error an option is missing
  train({ data, init, seqLength: 8, lr: 1 })
  // @ts-expect-error not one of the handlers
  preprocess({ corpus: corpus('d'), tokenizer: hfModel('m'), handler: 'GeneralPretrain' })
  // @ts-expect-error a ref is not its value
  const tokens: number = data.tokens
  // @ts-expect-error the output must fit the schema
  defineStep({ name: 'x', version: 1, input: z.object({}), output: HfModel }).run(() => ({ kind: 'corpus', path: '' }))
  // @ts-expect-error a field that the output does not have
  return [tokens, data.token]
}

const either = { name: 'x', version: 1, input: z.object({ tool: z.string().optional() }), output: z.string() } as const

function mustBeAFieldOfTheInput() {
  const job = { launch: () => ({ argv: [], nodes: 1, devicesPerNode: 0 }), collect: () => '' }
  // @ts-expect-error what decides is a field of the input
  defineStep(either).runOrJobWith('tolo', () => '', job)
  // As a job, the call has that field.
  return defineStep(either).runOrJobWith('tool', ({ tool }) => tool ?? '', {
    ...job,
    collect: ({ tool }) => tool.trim(),
  })
}

const step = defineStep({
  name: 'x',
  version: 1,
  input: z.object({
    mix: z.record(z.string(), z.object({ data: MegatronDataset, weight: z.number() })),
    from: z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('scratch'), layers: z.number() }),
      z.object({ kind: z.literal('hf'), model: HfModel }),
    ]),
  }),
  output: z.object({ n: z.number(), nested: z.object({ list: z.array(HfModel), maybe: z.string().optional() }) }),
}).run(({ from }) => ({ n: from.kind === 'hf' ? from.model.path.length : from.layers, nested: { list: [] } }))

function mustCompile(data: Ref<MegatronDataset>, model: Ref<HfModel>) {
  const either = (value: In<HfModel>) => step({ mix: { a: { data, weight: 1 } }, from: { kind: 'hf', model: value } })
  const ref = either(model)
  either(hfModel('m'))
  expectTypeOf(ref.nested.maybe).toEqualTypeOf<Ref<string>>()
  expectTypeOf<Out<{ a: typeof ref; b: { c: typeof data } }>>().toEqualTypeOf<{
    a: { n: number; nested: { list: HfModel[]; maybe?: string | undefined } }
    b: { c: MegatronDataset }
  }>()
  expectTypeOf<EventOf<'step.metrics'>['values']>().toEqualTypeOf<Readonly<Record<string, number>>>()
  return run({ ref, path: data.path })
    .on('step.failed', event => expectTypeOf(event.error.code).toBeString())
    .then(({ path }) => expectTypeOf(path).toBeString())
}

it('a pipeline is a function of typed values', () => {
  expect(Object.keys(pipeline([1e-5, 3e-5]).models)).toEqual(['0', '1'])
  expectTypeOf<Corpus['textKey']>().toBeString()
  const checks = [mustCompile, mustNotCompile, mustBeAFieldOfTheInput]
  expect(checks.every(check => typeof check === 'function')).toBe(true)
})
