import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { HandlerOptions } from '../../src/data/handlers/handler.ts'
import { type PromptType, promptTypes } from '../../src/data/handlers/prompt-templates.ts'
import { handlerNamed } from '../../src/data/handlers/registry.ts'
import { type Segment, segmentsHandler } from '../../src/data/handlers/segments.ts'
import { createRow } from '../../src/data/row.ts'
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer/tokenizer.ts'
import type { DataRecord } from '../../src/formats/record-batch.ts'
import { encodeRows, readLines, writeTokenizers } from './golden-handlers.ts'

let folder: string
let chat: Tokenizer
let fallback: Tokenizer
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
  const folders = await writeTokenizers(folder)
  chat = await loadTokenizer(folders.get('chat') ?? '')
  fallback = await loadTokenizer(folders.get('fallback') ?? '')
})
afterAll(() => rm(folder, { recursive: true }))

const mapKeys = { system: 'system', tools: 'tools' }
const turn = (from: string, value: string) => ({ from, value })
const encodeOne = (handler: string, row: DataRecord, options: HandlerOptions & { readonly appendEod?: boolean } = {}) =>
  encodeRows({ handler, options, appendEod: options.appendEod ?? false }, { rows: [row], tokenizer: chat }).encodeRow(0)
const textOf = (encoded: ReturnType<typeof encodeOne>, key = 0, sequence = 0) =>
  typeof encoded === 'string' ? encoded : chat.decode((encoded[key]?.[sequence] ?? []).filter(id => id !== -100))

describe('by default a row is encoded as ModelLink does, but for rows that it loses or spoils', () => {
  const rows = { alpaca: 'alpaca.jsonl', sharegpt: 'sharegpt.jsonl', pairs: 'alpaca-pairs.jsonl' }
  const spoilt = (promptType: PromptType, row: DataRecord) => {
    const { tools, conversations } = row as { tools?: string; conversations?: { from: string; value: string }[] }
    if (tools === 'not json') return 'refused'
    if (conversations?.some(({ from, value }) => from === 'function_call' && value === 'not json')) return 'refused'
    const hasTools = tools !== undefined && tools.length > 2
    if (hasTools && ['glm4', 'chatglm3'].includes(promptType)) return 'other'
    return promptType === 'llama2' && conversations?.[0]?.from === 'observation' ? 'other' : 'same'
  }

  test.each([
    ['AlpacaStyleInstructionHandler', rows.alpaca, { system: 'system' }],
    ['SharegptStyleInstructionHandler', rows.sharegpt, mapKeys],
    ['AlpacaStylePairwiseHandler', rows.pairs, { system: 'system' }],
  ])('%s', (handler, file, names) => {
    const all = readLines<DataRecord>(file)
    for (const promptType of promptTypes) {
      const options = { promptType, mapKeys: names }
      const ours = encodeRows({ handler, options }, { rows: all, tokenizer: chat })
      const exact = encodeRows({ handler, options: { ...options, compat: 'exact' } }, { rows: all, tokenizer: chat })
      for (const [i, row] of all.entries()) {
        const kind = typeof exact.encodeRow(i) === 'string' ? 'same' : spoilt(promptType, row)
        if (kind === 'refused') expect(() => ours.encodeRow(i)).toThrow(/not json/)
        else if (kind === 'same') expect(ours.encodeRow(i), `${promptType} ${i}`).toEqual(exact.encodeRow(i))
        else expect(ours.encodeRow(i), `${promptType} ${i}`).not.toEqual(exact.encodeRow(i))
      }
    }
  })
})

describe('what ModelLink loses is kept, unless files are to match exactly', () => {
  test('the history of Alpaca style rows', () => {
    const row = { instruction: 'c', output: 'd', history: [['a', 'b']] }
    const options = { promptType: 'default', mapKeys: { history: 'history' } } as const
    const handler = 'AlpacaStyleInstructionHandler'
    expect(textOf(encodeOne(handler, row, options))).toBe('Human: a\nAssistant:b</s>\nHuman: c\nAssistant:d</s>')
    expect(textOf(encodeOne(handler, row, options), 2)).toBe('b</s>d</s>')
    expect(textOf(encodeOne(handler, row, { ...options, compat: 'exact' }))).toBe('Human: c\nAssistant:d</s>')
    expect(() => encodeOne(handler, { ...row, history: ['a'] }, options)).toThrow(/pairs of question and answer.*"a"/)
  })

  test('the first of several rejected answers', () => {
    const row = { instruction: 'q', chosen: ['good'], rejected: ['worst', 'bad'] }
    const options = { promptType: 'empty' } as const
    const handler = 'AlpacaStylePairwiseHandler'
    expect(textOf(encodeOne(handler, row, options), 3)).toBe('worst')
    expect(textOf(encodeOne(handler, row, { ...options, compat: 'exact' }), 3)).toBe('bad')
  })

  test("Belle's last question, where no empty answer follows it", () => {
    const row = { instruction: 'Human: one\nAssistant: two\nHuman: three', output: 'four' }
    const handler = 'BelleMultiTurnInstructionHandler'
    expect(textOf(encodeOne(handler, row))).toMatch(/tion:\none\n### Response:\ntwo\n### Instruction:\nthree\n### Re/)
    expect(textOf(encodeOne(handler, row, { compat: 'exact' }))).toMatch(/Response:\ntwo\n### Response:\nfour\n$/)
  })

  test("the end that MOSS's instructions are asked for", () => {
    const row = { chat: { turn_1: { Human: 'a', MOSS: 'b' } } }
    const options = { appendEod: true }
    expect(textOf(encodeOne('MOSSInstructionHandler', row, options), 2)).toBe('b\n</s>')
    expect(textOf(encodeOne('MOSSInstructionHandler', row, { ...options, compat: 'exact' }), 2)).toBe('b\n')
  })

  test('what a user says of {{idx}}', () => {
    const row = { instruction: 'Write {{idx}}', output: 'ok' }
    const options = { promptType: 'empty' } as const
    expect(textOf(encodeOne('AlpacaStyleInstructionHandler', row, options))).toBe('Write {{idx}}ok')
    expect(textOf(encodeOne('AlpacaStyleInstructionHandler', row, { ...options, compat: 'exact' }))).toBe('Write 0ok')
  })
})

describe('rows without a document say why', () => {
  test.each([
    ['AlpacaStyleInstructionHandler', { instruction: 'a', output: null }, 'empty'],
    ['AlpacaStyleInstructionHandler', { instruction: 'a', output: ['b', 'c'] }, 'invalid turns'],
    ['AlpacaStyleInstructionHandler', { instruction: '', output: '' }, 'empty'],
    ['SharegptStyleInstructionHandler', { conversations: [] }, 'empty'],
    ['SharegptStyleInstructionHandler', { conversations: [turn('gpt', 'a'), turn('human', 'b')] }, 'invalid turns'],
    ['SharegptStyleInstructionHandler', { conversations: [turn('human', 'a')] }, 'invalid turns'],
    ['SharegptStyleInstructionHandler', { conversations: [turn('human', 'a'), turn('system', 'b')] }, 'invalid turns'],
  ])('%s, %j: %s', (handler, row, reason) => {
    expect(encodeOne(handler, row, { promptType: 'empty' })).toBe(reason)
  })

  test.each([
    ['BelleMultiTurnInstructionHandler', { instruction: '', output: 'a' }],
    ['MOSSMultiTurnHandler', { chat: {} }],
    ['MOSSInstructionHandler', { chat: {} }],
  ])('%s, %j: empty', (handler, row) => {
    expect(encodeOne(handler, row)).toBe('empty')
  })
})

describe('refused by name', () => {
  test.each<[string, DataRecord, RegExp]>([
    ['AlpacaStyleInstructionHandler', { instruction: 'a' }, /column "output".*line 1; its columns are instruction/],
    [
      'AlpacaStyleInstructionHandler',
      { instruction: 1, output: '' },
      /text in column "instruction".*a number in line 1/,
    ],
    ['SharegptStyleInstructionHandler', { conversations: 'a' }, /a list of messages in column "conversations"/],
    ['SharegptStyleInstructionHandler', { conversations: [turn('user', 'a')] }, /"from" \(human, gpt.*"user"/],
    ['AlpacaStylePairwiseHandler', { instruction: 'a', chosen: ['a'], rejected: [] }, /column "rejected"/],
  ])('%s, %j', (handler, row, message) => {
    expect(() => encodeOne(handler, row, { promptType: 'empty' })).toThrow(message)
  })

  test.each<[string, HandlerOptions, RegExp]>([
    ['AlpacaStyleInstructionHandler', {}, /needs a promptType\. Known are default, empty/],
    ['AlpacaStyleInstructionHandler', { promptType: 'gpt' as never }, /knows no promptType "gpt"/],
    ['GeneralInstructionHandler', { promptType: 'qwen' }, /takes no promptType; "qwen" was given/],
    ['GeneralInstructionHandler', { mapKeys: { query: 'q' } }, /no column "query".*knows instruction, input, output/],
    ['SharegptStyleInstructionHandler', { promptType: 'qwen', mapKeys: { tags: { user: 'u' } } }, /no column "user"/],
  ])('%s with %j', (handler, options, message) => {
    expect(() => handlerNamed(handler, options)).toThrow(message)
  })

  test('a template of tokens that the tokenizer does not have', () => {
    const rows = [{ instruction: 'a', output: 'b' }]
    const encode = () =>
      encodeRows(
        { handler: 'AlpacaStyleInstructionHandler', options: { promptType: 'chatglm3' } },
        { rows, tokenizer: fallback },
      )
    expect(() => encode().encodeRow(0)).toThrow(/no token \[gMASK\], which the prompt template chatglm3 is made of/)
  })
})

test('columns and tags of other names are read, tags that are not named keep theirs', () => {
  const conversations = [turn('human', 'a'), turn('gpt', 'b')]
  const renamed = { turns: conversations.map(({ from, value }) => ({ role: from === 'gpt' ? 'ai' : from, value })) }
  const tags = { role_tag: 'role', assistant_tag: 'ai' }
  const handler = 'SharegptStyleInstructionHandler'
  const promptType = 'default'
  expect(encodeOne(handler, renamed, { promptType, mapKeys: { messages: 'turns', tags } })).toEqual(
    encodeOne(handler, { conversations }, { promptType }),
  )
  const plain = encodeOne('GeneralInstructionHandler', { instruction: 'a', input: 'b', output: 'c' })
  const names = { instruction: 'question', output: 'answer' }
  const made = handlerNamed('GeneralInstructionHandler', { mapKeys: names })
  expect(made.columns([])).toEqual(['question', 'input', 'answer'])
  expect(
    encodeOne('GeneralInstructionHandler', { question: 'a', input: 'b', answer: 'c' }, { mapKeys: names }),
  ).toEqual(plain)
})

test('stop words that a tokenizer lacks get ids behind its vocabulary, and the first becomes its eos', () => {
  const facts = (promptType: PromptType, tokenizer: Tokenizer) =>
    handlerNamed('AlpacaStyleInstructionHandler', { promptType }).tokenizerFacts?.(tokenizer)
  const { vocabSize, eosId } = fallback
  expect(facts('chatml', fallback)).toMatchObject({ vocabSize: vocabSize + 2, eosId: vocabSize })
  expect(facts('default', fallback)).toMatchObject({ vocabSize, eosId })
  expect(facts('chatml', chat)).toMatchObject({ vocabSize: chat.vocabSize, eosId: 2 })
})

describe("a handler of the user's own", () => {
  const encode = (segments: (row: { q: string; a: string }) => readonly Segment[], eod?: number) => {
    const batch = {
      file: 'a.jsonl',
      records: [{ q: 'ab', a: 'ab' }],
      bytesRead: 0,
      locate: () => ({ place: 'line 1' }),
    }
    const context = { tokenizer: chat, jsonKeys: [], ...(eod === undefined ? {} : { eod }) }
    return segmentsHandler({ name: 'faq', row: z.object({ q: z.string(), a: z.string() }), segments }).encode(
      createRow(batch, 0),
      context,
    )
  }

  test('gives ids, a mask, and labels where the model is to be trained', () => {
    const ids = [...chat.encode('ab', { addSpecialTokens: false })]
    const encoded = encode(
      row => [
        { text: row.q, train: false },
        { ids: [7], train: false },
        { text: row.a, train: true },
      ],
      9,
    )
    expect(encoded.map(([sequence]) => [...(sequence ?? [])])).toEqual([
      [...ids, 7, ...ids, 9],
      [...ids, 7, ...ids, 9].map(() => 1),
      [...ids.map(() => -100), -100, ...ids, 9],
    ])
  })

  test('leaves rows out, even with an end to append, and refuses ids that are none', () => {
    expect(encode(() => [], 9)).toEqual([])
    expect(() => encode(() => [{ ids: [1.5], train: true }])).toThrow(/gave 1\.5 as a token id/)
  })
})
