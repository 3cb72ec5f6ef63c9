import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { parseIterationLine } from '../../src/ascendspeed/iteration-line.ts'
import { openMegatronCheckpoint } from '../../src/checkpoint/open-megatron.ts'
import { parseArguments } from '../../src/trainer/arguments.ts'
import { trainModel } from '../../src/trainer/loop.ts'
import { temporaryFolder, writeDataSet } from './program-fixture.ts'

const golden = fileURLToPath(new URL('../../../shared/golden/checkpoints', import.meta.url))

// Checkpoints that ModelLink's own converters made.
test.skipIf(!existsSync(golden)).each([
  ['out_g2_tp2pp2', '--tensor-model-parallel-size 2 --pipeline-model-parallel-size 2'],
  ['out_g2_q2', '--tensor-model-parallel-size 2 --pipeline-model-parallel-size 2'],
  ['out_g3_mc', '--tensor-model-parallel-size 2 --pipeline-model-parallel-size 2 --use-mcore-models'],
  ['out_g3_q2', '--tensor-model-parallel-size 2 --pipeline-model-parallel-size 2 --use-mcore-models'],
])('trains and saves %s', async (name, layout) => {
  const folder = await temporaryFolder()
  const data = join(folder, 'text_document')
  await writeDataSet(
    data,
    Array.from({ length: 30 }, (_, i) => Int32Array.from({ length: 30 }, (_, j) => (i + j) % 97)),
  )
  const save = join(folder, 'out')
  const load = join(golden, name)
  const words = `${layout} --load ${load} --finetune --data-path ${data} --split 100,0,0 --eval-iters 0 --seq-length 16 --micro-batch-size 4 --train-iters 12 --lr 1e-2 --lr-decay-style constant --log-interval 1 --save ${save} --save-interval 100 --bf16`
  const lines: string[] = []
  await trainModel(parseArguments(words.split(' ')), { print: line => lines.push(line) })
  const losses = lines.flatMap(line => parseIterationLine(line)?.loss ?? [])
  expect(losses).toHaveLength(12)
  expect(losses.at(-1)).toBeLessThan((losses[0] as number) - 0.3)
  const [before, after] = [await openMegatronCheckpoint(load), await openMegatronCheckpoint(save)]
  const facts = ({ architecture, tp, pp, layout, paddedVocabSize, tensors }: typeof before) => ({
    ...{ architecture, tp, pp, layout, paddedVocabSize },
    tensors: [...tensors],
  })
  expect(facts(after)).toEqual(facts(before))
  await before.close()
  await after.close()
})
