import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createSafetensors } from 'ascendflow/formats'
import { initialWeights, llamaConfig, type Tensor } from './initial-weights.ts'
import { specialTokens, tokenizerJson, trainTokenizer } from './train-tokenizer.ts'

const shippedText = fileURLToPath(new URL('instructions.jsonl', import.meta.url))

/**
 * Writes a small Llama with fresh weights and a tokenizer of its own as a Hugging Face folder: 1.0 M parameters, bf16.
 *
 * The same `seed` (default 1) and texts give the same bytes. `textFiles` are what the tokenizer learns from, files of
 * instruction rows, one JSON object a line; the default is the text of the quickstart. The folder appears whole or not
 * at all; one that is there already is left alone.
 */
export async function makeModel(
  dir: string,
  { seed = 1, textFiles = [shippedText] }: { seed?: number; textFiles?: readonly string[] } = {},
): Promise<void> {
  if (existsSync(join(dir, 'config.json'))) return
  const texts = await Promise.all(textFiles.map(path => readFile(path, 'utf8')))
  const bpe = trainTokenizer(texts.flatMap(text => text.split('\n').filter(Boolean).map(asPrompt)))
  const vocabSize = Math.ceil(Object.keys(bpe.vocab).length / 128) * 128
  const config = llamaConfig(vocabSize)
  const ids = { bos_token_id: bpe.vocab['<s>'], eos_token_id: bpe.vocab['</s>'], pad_token_id: bpe.vocab['<unk>'] }
  const files = {
    'config.json': { ...config, ...ids },
    'generation_config.json': { ...ids, do_sample: false, max_length: config.max_position_embeddings },
    'tokenizer.json': tokenizerJson(bpe),
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      model_max_length: config.max_position_embeddings,
      clean_up_tokenization_spaces: false,
      ...specialTokens,
    },
    'special_tokens_map.json': specialTokens,
  }
  const temporary = `${resolve(dir)}.${randomUUID()}.tmp`
  await mkdir(temporary, { recursive: true })
  try {
    for (const [name, json] of Object.entries(files)) {
      await writeFile(join(temporary, name), `${JSON.stringify(json, null, 2)}\n`)
    }
    await writeWeights(join(temporary, 'model.safetensors'), initialWeights(config, seed))
    await rename(temporary, dir)
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

async function writeWeights(path: string, weights: readonly Tensor[]): Promise<void> {
  const data = new Map(weights.map(tensor => [tensor.name, tensor.data]))
  const file = await createSafetensors(path, weights, { metadata: { format: 'pt' } })
  try {
    for (const name of file.order) await file.write(name, data.get(name)!)
    await file.finish()
  } finally {
    await file.close()
  }
}

/** A row as the training sees it: AscendSpeed's GeneralInstructionHandler. So the tokenizer learns its preamble too. */
function asPrompt(line: string): string {
  const { instruction, input, output } = JSON.parse(line)
  const preamble =
    'Below is an instruction that describes a task, paired with an input that provides further context. ' +
    'Write a response that appropriately completes the request. ' +
    'Please note that you need to think through your response logically and step by step.'
  return `\n${preamble}\n### Instruction:\n${instruction}\n${input}\n### Response:\n${output}\n`
}
