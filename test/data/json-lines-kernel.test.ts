import { isUtf8 } from 'node:buffer'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { generalPretrainHandler } from '../../src/data/handlers/general-pretrain.ts'
import { type PreprocessOptions, preprocessCorpus } from '../../src/data/preprocess.ts'
import {
  createTokenizer,
  loadTokenizer,
  loadTokenizerImage,
  type Tokenizer,
} from '../../src/data/tokenizer/tokenizer.ts'
import { fuzzTexts } from './fuzz-text.ts'
import { loadFrom } from './oracle.ts'

const golden = fileURLToPath(new URL('./golden/', import.meta.url))
const byteLevel = join(golden, 'tokenizers', 'byte-level')
const byteFallback = join(golden, 'tokenizers', 'byte-fallback')

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

/** What preprocessing gives: the files' bytes and the counts, or the error. */
async function outcome(bytes: Buffer, options: Partial<PreprocessOptions>) {
  const file = join(folder, 'rows.jsonl')
  const outputPrefix = join(folder, 'out')
  await writeFile(file, bytes)
  try {
    const whole = {
      files: [file],
      tokenizerDir: byteLevel,
      outputPrefix,
      handler: 'GeneralPretrainHandler',
      ...options,
    }
    const { report } = await preprocessCorpus({ ...whole, workers: 1 } as PreprocessOptions)
    // As text, because buffers of megabytes are compared byte by byte, each as a property of its own.
    const read = (end: string) => readFile(`${outputPrefix}_text_document.${end}`, 'base64')
    const [bin, idx] = await Promise.all(['bin', 'idx'].map(read))
    return { bin, idx, report: { ...report, handler: undefined } }
  } catch (error) {
    return { error: (error as Error).message }
  }
}

/** A handler that is not known by its own self: its rows are parsed, and encoded text by text. */
const rowByRow = { ...generalPretrainHandler }

const plain = '{"text": "Hello world"}'
const lines: Readonly<Record<string, string | Buffer>> = {
  'escapes of all kinds': String.raw`{"text": "a\n\t\r\b\f\"\\\/ \u4f60\u0041\u00e9"}`,
  'a surrogate pair in escapes': String.raw`{"text": "x \ud83d\ude00 y"}`,
  'lone surrogates': String.raw`{"text": "x \ud83d y"}
{"text": "\ude00"}
{"text": "\ud83d\ud83d\ude00"}
{"text": "\ud83dA"}
{"text": "\ud83d"}`,
  'a key twice': '{"text": "first", "id": 1, "text": "last"}',
  'a key twice, the last one no text': '{"text": "first", "text": 1}',
  'a key written with an escape': String.raw`{"t\u0065xt": "here"}`,
  'the key inside another object': '{"meta": {"text": "not this"}, "text": "this", "more": [{"text": 1}]}',
  'the key only inside another object': '{"meta": {"text": "not this"}}',
  'the key last': '{"a": [1, -2.5e+3, true, false, null, {}, [], [[]]], "b": {"c": ""}, "text": "this"}',
  'white space everywhere': ' \t{ "id" :\t1 , "text"\t: "this" , "x" : [ 1 , 2 ] , "y" : { "z" : 0 } } \t',
  'NUL as an escape': String.raw`{"text": "a\u0000b"}`,
  'NUL as it is': '{"text": "a\u0000b"}',
  'a control character': '{"text": "a\u0001b"}',
  'delete and C1 characters': '{"text": "a\u007f\u0080\u009fb"}',
  'invalid UTF-8 in the text': Buffer.from('{"text": "a\xffb"}', 'latin1'),
  'invalid UTF-8 elsewhere': Buffer.from('{"x": "a\xc3", "text": "b"}', 'latin1'),
  'an overlong form': Buffer.from('{"text": "a\xc0\xafb"}', 'latin1'),
  'a surrogate in UTF-8': Buffer.from('{"text": "a\xed\xa0\x80b"}', 'latin1'),
  'beyond Unicode': Buffer.from('{"text": "a\xf4\x90\x80\x80b"}', 'latin1'),
  'a character that is cut off': Buffer.from('{"text": "a\xe4\xbd', 'latin1'),
  'a replacement character': '{"text": "a\ufffdb"}',
  'a byte order mark in a later line': '\ufeff{"text": "a"}',
  'CR LF': '{"text": "a"}\r\n{"text": "b"}\r',
  'blank lines': '\n  \t \r\n{"text": "a"}\n\n',
  'empty texts': '{"text": ""}\n{"text": "a"}\n{"text": ""}',
  'no such column': '{"body": "a"}',
  'an empty object': '{}',
  'a number': '{"text": 5}',
  null: '{"text": null}',
  'an array': '["text", "a"]',
  'a trailing comma': '{"text": "a",}',
  'a comma in front': '{,"text": "a"}',
  'a missing colon': '{"text" "a"}',
  'something behind': '{"text": "a"} x',
  'two objects': '{"text": "a"}{"text": "b"}',
  'an object over two lines': '{"text":\n"a"}',
  'an open string': '{"text": "a',
  'a bad escape': String.raw`{"text": "a\x41"}`,
  'a short escape': String.raw`{"text": "a\u00g0"}`,
  'a bad number': '{"n": 01, "text": "a"}',
  'a number with nothing behind the point': '{"n": 1., "text": "a"}',
  'a number without digits': '{"n": -, "text": "a"}',
  'a bad literal': '{"n": nul, "text": "a"}',
  'single quotes': "{'text': 'a'}",
  'deep nesting': `{"x": ${'['.repeat(100)}${']'.repeat(100)}, "text": "a"}`,
  'unbalanced brackets': '{"x": [1, {"y": 2]}, "text": "a"}',
  'a very long word': `{"text": "a ${'x'.repeat(3000)} b ${'中'.repeat(800)} ${'='.repeat(700)}"}`,
  'a special token in the text': '{"text": "a <|endoftext|> b </s> c"}',
  __proto__: '{"__proto__": {"text": "no"}, "text": "a"}',
}

describe('lines of JSON give the same files, counts and errors as rows that are parsed', () => {
  for (const [what, line] of Object.entries(lines)) {
    test.each(['fail', 'skip'] as const)(`${what}, bad rows: %s`, async onBadRow => {
      const bytes = Buffer.concat([`${plain}\n`, line, `\n${plain}`].map(part => Buffer.from(part as string)))
      const options = { onBadRow, appendEod: what.length % 2 === 0, tokenizerDir: byteFallback }
      const appendEod = false
      expect(await outcome(bytes, { ...options, appendEod })).toEqual(
        await outcome(bytes, { ...options, appendEod, handler: rowByRow }),
      )
    })
  }

  test('a line that is longer than what is encoded at a time', async () => {
    const long = JSON.stringify({ text: 'word 中文 '.repeat(180_000) })
    const bytes = Buffer.from(`${plain}\n${long}\n${plain}\n`)
    expect(await outcome(bytes, {})).toEqual(await outcome(bytes, { handler: rowByRow }))
  })

  test('with a byte order mark, an eos and a longest length', async () => {
    const rows = fuzzTexts(300, { seed: 7, words: ['data', '训练'] }).map(text => JSON.stringify({ id: 1, text }))
    const bytes = Buffer.from(`\ufeff${rows.join('\n')}\n`)
    for (const overflow of ['drop', 'truncate', 'split'] as const) {
      const options = { appendEod: true, seqLength: 40, overflow, tokenizerDir: join(golden, 'tiny', 'tok') }
      expect(await outcome(bytes, options)).toEqual(await outcome(bytes, { ...options, handler: rowByRow }))
    }
  })

  test('with a column whose name is not ASCII', async () => {
    const bytes = Buffer.from('{"文本": "a", "text": "b"}\n{"text": "c", "文本": "你好"}\n')
    const of = async (handler: PreprocessOptions['handler']) => {
      const outputPrefix = join(folder, 'named')
      const file = join(folder, 'named.jsonl')
      await writeFile(file, bytes)
      await preprocessCorpus({ files: [file], tokenizerDir: byteLevel, outputPrefix, handler, jsonKeys: ['文本'] })
      return readFile(`${outputPrefix}_文本_document.bin`)
    }
    expect(await of('GeneralPretrainHandler')).toEqual(await of(rowByRow))
  })
})

describe('a line that is encoded without being parsed is one that JSON.parse takes, with the same text', () => {
  const tokenizers: Readonly<Record<string, () => Promise<Tokenizer>>> = {
    'byte-level': () => loadTokenizer(byteLevel),
    'byte-fallback': () => loadTokenizer(byteFallback),
    sentencepiece: async () =>
      loadFrom({
        'tokenizer.model': await readFile(join(golden, 'sentencepiece', 'bpe-bytes.model')),
        'tokenizer_config.json': {
          tokenizer_class: 'BaichuanTokenizer',
          bos_token: null,
          eos_token: null,
          unk_token: null,
          add_bos_token: false,
        },
      }),
  }
  test.each(Object.keys(tokenizers))('%s', async name => {
    const tokenizer = await tokenizers[name]!()
    const texts = fuzzTexts(3000, { seed: 11, words: ['the', ' data', '模型', '</s>'] })
    let state = 5
    const below = (limit: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * limit)
    }
    let taken = 0
    for (const [i, text] of texts.entries()) {
      const line = Buffer.from(JSON.stringify({ n: [i, -0.5e3, { a: null }], text, b: [true, 'x'] }))
      // Half of the lines as they are, the others with a byte or two spoilt.
      for (let spoilt = i % 2 === 0 ? 0 : 1 + below(2); spoilt > 0; spoilt--) {
        line[below(Math.min(line.length, 200))] =
          below(4) === 0 ? below(256) : ('{}[]",:\\u0e-.'.charCodeAt(below(13)) ?? 0)
      }
      const rows = tokenizer.encodeLines?.({ bytes: line, key: 'text', encodeLine: () => 'bad' })
      if (!rows) continue
      const record = isUtf8(line) ? (JSON.parse(line.toString()) as { text: string }) : undefined
      const isEmpty = record?.text === ''
      const ids = isEmpty ? [] : [...tokenizer.encode(record?.text ?? 'not UTF-8')]
      expect([[...rows.ids], [...rows.lengths]]).toEqual([ids, [isEmpty ? -1 : ids.length]])
      taken++
    }
    expect(taken).toBeGreaterThan(name === 'byte-level' ? 1000 : 500)
  })
})

test('the kernel works beyond the first 2 GiB of its memory', async () => {
  // As if as many threads had their regions there; memory that is not touched costs nothing.
  const far = await loadTokenizerImage(byteLevel)
  far.kernel!.memory.grow(2 ** 31 / 65536)
  const tokenizer = createTokenizer(far)
  const bytes = Buffer.from(`${plain}\n{"text": ""}\n{"t\\u0065xt": "here"}\n`)
  const rows = tokenizer.encodeLines?.({ bytes, key: 'text', encodeLine: () => Int32Array.of(7, 8) })
  const ids = [
    ...(await loadFrom({ 'tokenizer.json': await readFile(join(byteLevel, 'tokenizer.json')) })).encode('Hello world'),
  ]
  expect([...tokenizer.encode('Hello world')]).toEqual(ids)
  expect([[...rows!.ids], [...rows!.lengths]]).toEqual([
    [...ids, 7, 8],
    [ids.length, -1, 2],
  ])
})
