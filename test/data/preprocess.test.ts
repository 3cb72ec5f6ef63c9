import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type PreprocessOptions, preprocessCorpus } from '../../src/data/preprocess.ts'
import { loadTokenizer } from '../../src/data/tokenizer/tokenizer.ts'
import { openIndexedDataset } from '../../src/formats/indexed-dataset.ts'

const golden = fileURLToPath(new URL('./golden/', import.meta.url))
const tokenizerDir = join(golden, 'tokenizers', 'byte-level')
const tiny = join(golden, 'tiny')

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function writeRows(name: string, rows: readonly unknown[]): Promise<string> {
  const file = join(folder, name)
  await writeFile(file, rows.map(row => `${JSON.stringify(row)}\n`).join(''))
  return file
}

const run = (options: Partial<PreprocessOptions> & Pick<PreprocessOptions, 'files'>) =>
  preprocessCorpus({
    handler: 'GeneralPretrainHandler',
    tokenizerDir,
    outputPrefix: join(folder, 'out', 'd'),
    ...options,
  })

const visible = async () => (await readdir(join(folder, 'out')).catch(() => [])).sort()

function sequences(prefix: string): number[][] {
  const dataset = openIndexedDataset(prefix)
  const all = Array.from(dataset.lengths, (_, i) => [...dataset.sequence(i)])
  dataset.close()
  return all
}

describe("files are those of ModelLink's preprocess_data.py, byte for byte", () => {
  for (const container of ['data.json', 'data.jsonl', 'data.parquet']) {
    test.each([
      [
        'pre',
        'GeneralPretrainHandler',
        { documents: 3, sequences: 2, tokens: 25, report: { rows: 4, trainTokens: 25, empty: 1, overLength: 1 } },
      ],
      [
        'sft',
        'GeneralInstructionHandler',
        { documents: 4, sequences: 3, tokens: 609, report: { rows: 4, empty: 0, overLength: 1 } },
      ],
    ] as const)(`${container}, %s`, async (name, handler, counts) => {
      const outputPrefix = join(folder, 'out', name)
      const options = { files: [join(tiny, container)], handler, outputPrefix, seqLength: 250, appendEod: true }
      const result = await run({ ...options, tokenizerDir: join(tiny, 'tok') })
      const names = (await readdir(tiny)).filter(file => file.startsWith(`${name}_`)).sort()
      expect(await visible()).toEqual(names)
      for (const file of names)
        expect(await readFile(join(folder, 'out', file)), file).toEqual(await readFile(join(tiny, file)))
      expect(result).toMatchObject({ ...counts, eosId: 2 })
      expect(result.dataPath).toBe(
        handler === 'GeneralPretrainHandler' ? `${outputPrefix}_text_document` : outputPrefix,
      )
    })
  }
})

test('rows come in the order of the files and of the rows in them, one document each', async () => {
  const { encode } = await loadTokenizer(tokenizerDir)
  const texts = ['The quick', '训练', 'fox', '', 'lazy dog']
  const files = [
    await writeRows('b.jsonl', [{ text: texts[0] }, { text: texts[1] }]),
    await writeRows(
      'a.json',
      texts.slice(2).map(text => ({ text })),
    ),
  ]
  const result = await run({ files })
  expect(result).toMatchObject({ documents: 4, sequences: 4, report: { rows: 5, empty: 1, overLength: 0 } })
  expect(sequences(result.dataPath)).toEqual(texts.filter(text => text !== '').map(text => [...encode(text)]))
})

test('each JSON key becomes a dataset of its own', async () => {
  const files = [
    await writeRows('a.jsonl', [
      { title: 'The', body: 'quick' },
      { title: '', body: 'fox' },
    ]),
  ]
  const { datasets, report } = await run({ files, jsonKeys: ['title', 'body'] })
  expect(datasets.map(({ key, prefix, documents }) => [key, prefix, documents])).toEqual([
    ['title', join(folder, 'out', 'd_title_document'), 1],
    ['body', join(folder, 'out', 'd_body_document'), 2],
  ])
  expect(report.empty).toBe(0)
})

test('a sequence of exactly seqLength tokens is left out, and its document is closed', async () => {
  const text = 'The quick brown fox'
  const files = [await writeRows('a.jsonl', [{ text: 'fox' }, { text }])]
  const length = (await loadTokenizer(tokenizerDir)).encode(text).length
  const { dataPath, report } = await run({ files, seqLength: length })
  const dataset = openIndexedDataset(dataPath)
  expect([report.overLength, [...dataset.documents]]).toEqual([1, [0, 1, 1]])
  dataset.close()
  expect((await run({ files, seqLength: length + 1 })).report.overLength).toBe(0)
})

describe('labels of instruction data', () => {
  const row = (output: string) => ({ instruction: 'Say hi', input: '', output })
  const labelsOf = async (output: string, options: Partial<PreprocessOptions> = {}) => {
    const files = [await writeRows('a.jsonl', [row(output)])]
    const result = await run({ files, handler: 'GeneralInstructionHandler', ...options })
    const [ids] = sequences(`${result.dataPath}_packed_input_ids_document`)
    const [mask] = sequences(`${result.dataPath}_packed_attention_mask_document`)
    const [labels] = sequences(`${result.dataPath}_packed_labels_document`)
    expect(mask).toEqual(ids?.map(() => 1))
    expect(result.report.trainTokens).toBe(labels?.filter(label => label !== -100).length)
    return { ids: ids ?? [], labels: labels ?? [], result }
  }

  test('are -100 up to the response, then the ids', async () => {
    const tokenizer = await loadTokenizer(tokenizerDir)
    const { ids, labels } = await labelsOf('hi there')
    const prompt = labels.filter(label => label === -100).length
    expect(labels.slice(prompt)).toEqual(ids.slice(prompt))
    expect(tokenizer.decode(ids.slice(0, prompt))).toMatch(/### Response:\n$/)
    expect(tokenizer.decode(ids.slice(prompt))).toBe('hi there\n')
    expect(tokenizer.decode(ids)).toBe(
      '\nBelow is an instruction that describes a task, paired with an input that provides further context. ' +
        'Write a response that appropriately completes the request. ' +
        'Please note that you need to think through your response logically and step by step.\n' +
        '### Instruction:\nSay hi\n\n### Response:\nhi there\n',
    )
  })

  test('start after the last mark when the response holds one, too', async () => {
    const tokenizer = await loadTokenizer(tokenizerDir)
    const { labels } = await labelsOf('no\n### Response:\nyes')
    expect(tokenizer.decode(labels.filter(label => label !== -100))).toBe('yes\n')
  })

  test('hide as many ids as the prompt alone has, though merges cross its end', async () => {
    const tokenizer = await loadTokenizer(tokenizerDir)
    const { ids, labels } = await labelsOf('\n\n')
    const prompt = tokenizer.encode(`${tokenizer.decode(ids).split('### Response:')[0]}### Response:\n`)
    expect([...ids.slice(0, prompt.length)]).not.toEqual([...prompt])
    expect(labels.filter(label => label === -100).length).toBe(Math.min(prompt.length, ids.length))
  })

  test('end with the eos, which is trained', async () => {
    const folderWithEos = join(folder, 'tokenizer')
    await mkdir(folderWithEos)
    await writeFile(join(folderWithEos, 'tokenizer.json'), await readFile(join(tokenizerDir, 'tokenizer.json')))
    await writeFile(join(folderWithEos, 'tokenizer_config.json'), '{"eos_token":"<|im_end|>"}')
    const { ids, labels } = await labelsOf('hi', { appendEod: true, tokenizerDir: folderWithEos })
    expect([ids.at(-1), labels.at(-1)]).toEqual([2, 2])
  })
})

describe('what cannot be done is said', () => {
  test.each([
    ['null', { text: null }, /a\.jsonl: expected text in column "text" of every row, found null in line 2 \(byte 15\)/],
    ['missing', { n: 3, m: 4 }, /found no such column in line 2; its columns are n, m \(byte 15\)/],
    ['a list', { text: ['a'] }, /found a list in line 2/],
    ['a number', { text: 7 }, /found a number in line 2/],
  ])('a text that is %s', async (_, row, message) => {
    const running = run({ files: [await writeRows('a.jsonl', [{ text: 'fox' }, row])] })
    await expect(running).rejects.toThrow(message)
    await expect(running).rejects.toMatchObject({ code: 'bad-format' })
    expect(await visible()).toEqual([])
  })

  test('a column that no row of a Parquet file has', async () => {
    const running = run({ files: [join(tiny, 'data.parquet')], jsonKeys: ['body'] })
    await expect(running).rejects.toThrow(
      /"body" .* in row group 0, row 0; its columns are instruction, input, output, text/,
    )
  })

  test('an unknown handler, with the list', async () => {
    const running = run({ files: [], handler: 'AlpacaHandler' as never })
    await expect(running).rejects.toThrow(
      /no handler "AlpacaHandler"\. Known are GeneralPretrainHandler.* and \w+Handler\./,
    )
    await expect(running).rejects.toMatchObject({ code: 'invalid-input' })
  })

  test('an end of document without an eos token, before any row is read', async () => {
    const files = [await writeRows('a.jsonl', ['broken'])]
    const running = run({ files, appendEod: true })
    await expect(running).rejects.toThrow(/has no eos token .*tokenizer_config\.json, for example "eos_token"/)
    await expect(running).rejects.toMatchObject({ code: 'invalid-input' })
  })

  test('nothing kept, with the counts', async () => {
    const files = [await writeRows('a.jsonl', [{ text: '' }, { text: 'The quick brown fox' }])]
    await expect(run({ files, seqLength: 1 })).rejects.toThrow(
      /of 2 rows 1 are empty, 1 have 1 tokens or more\. A greater seqLength would keep them/,
    )
    await expect(run({ files: [await writeRows('b.jsonl', [])] })).rejects.toThrow(
      /of 0 rows 0 are empty\. Are these the right files\?/,
    )
    expect(await visible()).toEqual([])
  })

  test('missing files, unknown extensions, numbers that are none', async () => {
    await expect(run({ files: [] })).rejects.toThrow(/no file to read/)
    await expect(run({ files: [join(folder, 'no.json')] })).rejects.toThrow(/no\.json: there is no such file/)
    await expect(run({ files: [await writeRows('a.xml', [])] })).rejects.toThrow(
      /from files with \.json, \.jsonl, .*, not from \.xml/,
    )
    await expect(run({ files: [await writeRows('a.json', [])], seqLength: 0 })).rejects.toThrow(/seqLength is 0/)
    await expect(run({ files: [await writeRows('a.json', [])], jsonKeys: [] })).rejects.toThrow(/jsonKeys/)
    await expect(run({ files: [await writeRows('a.json', [])], jsonKeys: ['a', 'a'] })).rejects.toThrow(/jsonKeys/)
  })
})

test('index caches of earlier files at the prefix are removed, those of others stay', async () => {
  const files = [await writeRows('a.jsonl', [{ text: 'fox' }])]
  const out = join(folder, 'out')
  const stale = [
    'd_text_document/cache/GPTDataset_indices/x.npy',
    'd_train_indexmap_8ns_1s_decoder_packed_shuffle_idx.npy',
  ]
  const others = [
    'd2_train_indexmap_8ns_1s_decoder_packed_shuffle_idx.npy',
    'd_notes.npy',
    'e_text_document/cache/GPTDataset_indices/x.npy',
  ]
  for (const name of [...stale, ...others]) {
    await mkdir(join(out, name, '..'), { recursive: true })
    await writeFile(join(out, name), '')
  }
  await run({ files })
  const left = await readdir(out, { recursive: true })
  for (const name of stale) expect(left).not.toContain(name)
  for (const name of others) expect(left).toContain(name)
})

test('an abort leaves nothing behind, and an earlier dataset as it was', async () => {
  const files = [await writeRows('a.jsonl', [{ text: 'fox' }])]
  const { dataPath } = await run({ files })
  const before = await visible()
  const controller = new AbortController()
  const onProgress = () => controller.abort(new Error('enough'))
  const many = [...files, await writeRows('b.jsonl', [{ text: 'dog' }])]
  await expect(run({ files: many, signal: controller.signal, onProgress })).rejects.toThrow('enough')
  expect(await visible()).toEqual(before)
  expect(sequences(dataPath).length).toBe(1)
})

test('progress grows to the size of all files', async () => {
  const files = [
    await writeRows('a.jsonl', [{ text: 'fox' }]),
    await writeRows('b.jsonl', [{ text: 'dog' }, { text: 'fox' }]),
  ]
  const seen: number[][] = []
  await run({ files, onProgress: (done, total) => seen.push([done, total]) })
  expect(seen).toEqual([
    [15, 45],
    [45, 45],
    [45, 45],
  ])
})
