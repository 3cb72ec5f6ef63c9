import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tokenizer } from 'tokenizers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeModel } from '../../examples/quickstart/make-model.ts'
import { trainTokenizer } from '../../examples/quickstart/train-tokenizer.ts'

const quickstart = join(import.meta.dirname, '../../examples/quickstart')
let dir: string
let model: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'quickstart-model-'))
  model = join(dir, 'models/small')
  await makeModel(model)
})
afterAll(() => rm(dir, { recursive: true, force: true }))

/** The sha256 of every file of a folder: quicker to compare than megabytes. */
async function digestsOf(folder: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {}
  for (const name of await readdir(folder)) {
    digests[name] = createHash('sha256')
      .update(await readFile(join(folder, name)))
      .digest('hex')
  }
  return digests
}
const jsonOf = async (name: string) => JSON.parse(await readFile(join(model, name), 'utf8'))
const rowsOf = async (name: string): Promise<Record<string, string>[]> =>
  (await readFile(join(quickstart, name), 'utf8'))
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line))

/** The tensors of a safetensors file by name, widened from bf16, read by the format's own description. */
async function tensorsOf(folder: string) {
  const file = await readFile(join(folder, 'model.safetensors'))
  const start = 8 + Number(file.readBigUInt64LE(0))
  const { __metadata__, ...header } = JSON.parse(file.toString('utf8', 8, start))
  return new Map(
    Object.entries<{ dtype: string; shape: number[]; data_offsets: [number, number] }>(header).map(([name, entry]) => {
      const [from, to] = entry.data_offsets.map(offset => start + offset) as [number, number]
      const bits = Uint32Array.from({ length: (to - from) / 2 }, (_, i) => file.readUInt16LE(from + 2 * i) << 16)
      return [name, { dtype: entry.dtype, shape: entry.shape, values: new Float32Array(bits.buffer) }]
    }),
  )
}

describe('makeModel', () => {
  it('writes the six files of a Hugging Face folder and nothing beside it', async () => {
    expect((await readdir(model)).toSorted()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'special_tokens_map.json',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    expect(await readdir(join(dir, 'models'))).toEqual(['small'])
  })

  it('gives the same bytes for the same seed, and for another seed other weights alone', async () => {
    await makeModel(join(dir, 'again'), { seed: 1 })
    await makeModel(join(dir, 'other'), { seed: 2 })
    const [first, again, other] = await Promise.all([model, join(dir, 'again'), join(dir, 'other')].map(digestsOf))
    expect(again).toEqual(first)
    const { 'model.safetensors': weights, ...rest } = other!
    expect(first).toMatchObject(rest)
    expect(weights).not.toBe(first!['model.safetensors'])
  })

  it('names and shapes its weights as LlamaForCausalLM does', async () => {
    const tensors = await tensorsOf(model)
    const layer = {
      'input_layernorm.weight': [128],
      'mlp.down_proj.weight': [128, 352],
      'mlp.gate_proj.weight': [352, 128],
      'mlp.up_proj.weight': [352, 128],
      'post_attention_layernorm.weight': [128],
      'self_attn.k_proj.weight': [64, 128],
      'self_attn.o_proj.weight': [128, 128],
      'self_attn.q_proj.weight': [128, 128],
      'self_attn.v_proj.weight': [64, 128],
    }
    const expected: Record<string, number[]> = {
      'model.embed_tokens.weight': [1024, 128],
      'model.norm.weight': [128],
      'lm_head.weight': [1024, 128],
    }
    for (const i of [0, 1, 2, 3]) {
      for (const [name, shape] of Object.entries(layer)) expected[`model.layers.${i}.${name}`] = shape
    }
    expect(Object.fromEntries([...tensors].map(([name, { shape }]) => [name, shape]))).toEqual(expected)
    expect(new Set([...tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(['BF16']))
  })

  it.each([
    ['model.embed_tokens.weight', 0, 0.02],
    ['model.layers.0.self_attn.q_proj.weight', 0, 0.02],
    ['model.layers.1.self_attn.o_proj.weight', 0, 0.02 / Math.sqrt(8)],
    ['model.layers.3.mlp.down_proj.weight', 0, 0.02 / Math.sqrt(8)],
    ['model.layers.2.input_layernorm.weight', 1, 0],
    ['model.norm.weight', 1, 0],
  ])('draws %s with mean %d and standard deviation %d', async (name, mean, deviation) => {
    const { values } = (await tensorsOf(model)).get(name)!
    const actual = values.reduce((sum, x) => sum + x, 0) / values.length
    // Five standard errors: 0.02 · 5 / √16384 for the mean, and half of that for the deviation.
    expect(Math.abs(actual - mean)).toBeLessThanOrEqual(deviation * 0.04)
    const variance = values.reduce((sum, x) => sum + (x - actual) ** 2, 0) / values.length
    expect(Math.abs(Math.sqrt(variance) - deviation)).toBeLessThanOrEqual(deviation * 0.03)
  })

  it('leaves a folder that is there already alone', async () => {
    const before = await digestsOf(model)
    await makeModel(model, { seed: 3 })
    expect(await digestsOf(model)).toEqual(before)
  })

  it('leaves nothing behind when it cannot finish', async () => {
    const busy = join(dir, 'busy')
    await mkdir(join(busy, 'mine'), { recursive: true })
    await writeFile(join(busy, 'mine/notes.txt'), 'keep')
    await expect(makeModel(join(busy, 'mine'))).rejects.toThrow()
    await expect(makeModel(join(busy, 'new'), { textFiles: [join(busy, 'absent.jsonl')] })).rejects.toThrow('absent')
    expect(await readdir(busy, { recursive: true })).toEqual(['mine', join('mine', 'notes.txt')])
  })
})

describe('the tokenizer', () => {
  it('is read by Hugging Face and says the ids that config.json says', async () => {
    const tokenizer = Tokenizer.fromFile(join(model, 'tokenizer.json'))
    const config = await jsonOf('config.json')
    expect(tokenizer.getVocabSize()).toBe(config.vocab_size)
    for (const name of ['bos', 'eos', 'pad']) {
      const token = (await jsonOf('tokenizer_config.json'))[`${name}_token`]
      expect(tokenizer.tokenToId(token)).toBe(config[`${name}_token_id`])
    }
  })

  it('encodes any text after <s> and decodes it to itself', async () => {
    const tokenizer = Tokenizer.fromFile(join(model, 'tokenizer.json'))
    const texts = [
      ...(await rowsOf('held-out.jsonl')).map(row => row.output!),
      '😀 👩‍👩‍👧 emoji',
      'def f(x):\n\treturn x  # tabs\r\n\n',
      '    spaces    inside  ',
      '中文，English 混合 123',
      'ÿ þ é ñ ü \u0000\u0001\u007f\u200b\ufeff',
      'مرحبا हिन्दी 𝔘',
    ]
    for (const text of texts) {
      const ids = (await tokenizer.encode(text)).getIds()
      expect(ids[0]).toBe(1)
      expect(await tokenizer.decode(ids, true)).toBe(text)
    }
  })

  it('joins the most frequent neighbours first and stops when none occurs twice', () => {
    // By hand: a·b six times, ab·ab three times, Ġ·abab twice; then every word is one token.
    const { vocab, merges } = trainTokenizer(['abab abab abab'])
    expect(merges).toEqual(['a b', 'ab ab', 'Ġ abab'])
    expect(Object.keys(vocab)).toHaveLength(3 + 256 + 3)
    expect(vocab).toMatchObject({ '<unk>': 0, '<s>': 1, '</s>': 2, ab: 259, abab: 260, Ġabab: 261 })
  })
})

describe('the text', () => {
  it.each([
    ['instructions.jsonl', 320],
    ['held-out.jsonl', 40],
  ])('%s has %d rows of three strings', async (name, count) => {
    const rows = await rowsOf(name)
    expect(rows).toHaveLength(count)
    for (const row of rows) {
      expect(Object.keys(row)).toEqual(['instruction', 'input', 'output'])
      expect(Object.values(row).every(value => typeof value === 'string')).toBe(true)
    }
  })

  it('asks no question twice, held-out questions included', async () => {
    const rows = [...(await rowsOf('instructions.jsonl')), ...(await rowsOf('held-out.jsonl'))]
    expect(new Set(rows.map(row => JSON.stringify([row.instruction, row.input]))).size).toBe(rows.length)
  })

  it('fits rows of 128 tokens with the template, <s> and </s>', async () => {
    const tokenizer = Tokenizer.fromFile(join(model, 'tokenizer.json'))
    const preamble =
      'Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request. Please note that you need to think through your response logically and step by step.'
    for (const { instruction, input, output } of [
      ...(await rowsOf('instructions.jsonl')),
      ...(await rowsOf('held-out.jsonl')),
    ]) {
      const text = `\n${preamble}\n### Instruction:\n${instruction}\n${input}\n### Response:\n${output}\n`
      // AscendSpeed drops a row of seqLength tokens and more.
      expect((await tokenizer.encode(text)).getIds().length + 1).toBeLessThan(128)
    }
  })
})
