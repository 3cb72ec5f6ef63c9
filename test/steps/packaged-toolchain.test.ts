import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ascendSpeed, corpus, hfToMegatron, local, megatronToHf, plan, preprocess, run, train } from 'ascendflow'
import { describe, expect, it } from 'vitest'
import { type Fixture, makeFixture, rows } from './toolchain-fixture.ts'

/** A package whose scripts give the guide's variables to the double's programs, as its own presumably do. */
async function makePackage({ dir, toolchain }: Fixture): Promise<string> {
  const package_ = join(dir, 'AscendSpeed')
  const python = `cd '${toolchain.dir}' && python`
  const convert = `${python} tools/checkpoint/convert_ckpt.py --model-type GPT`
  const words = {
    'scripts/install.sh': 'touch installed',
    'scripts/llama2/1_preprocess_data.sh': `${python} tools/preprocess_data.py --input "$ORIGINAL_TRAIN_DATA_PATH" \\
      --tokenizer-type "$TOKENIZER_TYPE" --tokenizer-name-or-path "$TOKENIZER_PATH" --handler-name "$DATA_TYPE" \\
      --output-prefix "$PROCESSED_DATA_PREFIX" --append-eod --seq-length "$SEQ_LEN"`,
    'scripts/llama2/2_convert_mg_hf.sh': `case "$1" in
      hf2hg) ${convert} --loader llama2_hf --saver megatron --load-dir "$ORIGINAL_HF_WEIGHT" --params-dtype bf16 \\
        --save-dir "$CONVERT_MODEL_PATH" --tokenizer-model x --target-tensor-parallel-size "$TP";;
      mg2hf) ${convert} --loader megatron --saver megatron --save-model-type save_huggingface_llama --params-dtype bf16 \\
        --load-dir "$MODEL_SAVE_PATH" --save-dir "$ORIGINAL_HF_WEIGHT";;
    esac`,
    'scripts/llama2/0_pl_sft_7b.sh': `cd '${toolchain.dir}' && torchrun --nproc_per_node "$GPUS_PER_NODE" pretrain_gpt.py \\
      --tensor-model-parallel-size "$TP" --micro-batch-size "$MBS" --global-batch-size "$GBS" --train-iters "$TRAIN_ITERS" \\
      --lr "$LR" --seq-length "$SEQ_LEN" --max-position-embeddings "$MAX_PE" --seed "$SEED" --bf16 --finetune \\
      --data-path "$PROCESSED_DATA_PREFIX" --is-instruction-dataset --load "$CONVERT_MODEL_PATH" \\
      --save "$MODEL_SAVE_PATH" --save-interval 10 --log-interval 1 --tokenizer-name-or-path "$TOKENIZER_PATH"`,
  }
  for (const [name, text] of Object.entries(words)) {
    await mkdir(join(package_, name, '..'), { recursive: true })
    await writeFile(join(package_, name), `${text}\n`)
  }
  return package_
}

describe('the packaged scripts', { timeout: 120_000 }, () => {
  it('do all four steps, with the values of the calls in the variables of the guide', async () => {
    const fixture = await makeFixture('modellink-1.1')
    const { base, store, double } = fixture
    const toolchain = ascendSpeed({
      ...{ dir: await makePackage(fixture), generation: 'modellink-1.1', scripts: { model: 'llama2-7b' } },
    })
    const instructions = { handler: 'GeneralInstructionHandler', appendEod: true, seqLength: 256 } as const
    const data = preprocess({ corpus: corpus(rows), tokenizer: base, ...instructions, toolchain })
    const init = hfToMegatron({ model: base, parallel: { tp: 2 }, toolchain })
    const numbers = { seqLength: 256, globalBatchSize: 2, lr: 1e-3, trainIters: 2 }
    const trained = train({ data, init, tokenizer: base, ...numbers, toolchain })
    const hf = megatronToHf({ checkpoint: trained, like: base, toolchain })
    const on = local({ env: double.env(process.env.PATH), devicesPerNode: 8 })
    const planned = await plan(hf, { store, on })
    expect(planned.steps[1]?.facts).toContain('ModelLink 1.1, packaged scripts of llama2-7b')
    expect(planned.steps[1]?.launch).toContain(' TP 2 PP 1 ')
    const out = await run({ data, trained, hf }, { store, on })
    expect([out.data.samples, out.trained.iteration, out.trained.tp]).toEqual([3, 2, 2])
  })

  it('take no further arguments, and need a model of the guide', async () => {
    const { base, store, dir } = await makeFixture('modellink-1.1')
    const scripts = { model: 'llama2-7b' }
    const convert = (options: object) =>
      plan(
        hfToMegatron({
          ...{ model: base, extraArgs: ['--no-checking'] },
          toolchain: ascendSpeed({ dir, generation: 'modellink-1.1', scripts }),
          ...options,
        }),
        { store },
      )
    await expect(convert({})).rejects.toThrow(/the packaged scripts take no arguments/)
    const toolchain = ascendSpeed({ dir, generation: 'modellink-1.1', scripts: { model: 'llama' } })
    await expect(convert({ extraArgs: undefined, toolchain })).rejects.toThrow(
      /expected a model's name as in the guide/,
    )
  })
})
