import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Artifact, defineArtifact, defineStep, plan, type Ref } from 'ascendflow'
import { beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'

const Text = defineArtifact<Artifact & { readonly language: string }>('text', { language: z.string() })
const first = defineStep({
  name: 'first',
  version: 1,
  input: z.object({
    n: z.number().default(3),
    text: Text.optional(),
    workers: z.number().default(4),
    options: z.record(z.string(), z.unknown()).optional(),
  }),
  output: z.object({ n: z.number() }),
  omitFromKey: ['workers'],
}).run(({ n }) => ({ n }))
const second = defineStep({
  name: 'second',
  version: 2,
  input: z.object({ n: z.number(), list: z.array(z.number()).default([]) }),
  output: z.object({ n: z.number() }),
}).run(({ n }) => ({ n }))

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})

async function keyOf(ref: Ref<unknown>): Promise<string> {
  return (await plan(ref, { store: dir })).steps.at(-1)!.key
}

const text = async (content: string, name = 'a.txt', language = 'zh') => {
  await writeFile(join(dir, name), content)
  return { kind: 'text', path: join(dir, name), language }
}

describe('a key', () => {
  // Computed with Python's hashlib over the canonical JSON: a change here re-runs every user's pipelines.
  it('is the sha256 of step, version and canonical input', async () => {
    // '["first",1,{"n":3}]'
    expect(await keyOf(first({}))).toBe('2f1443a37223b014d360aa21391c3703d37049c6ebb737f7041de650214ed939')
  })

  it('is the same for an explicit default and an omitted one', async () => {
    expect(await keyOf(first({ n: 3 }))).toBe(await keyOf(first({})))
  })

  it('does not count fields that the step omits, the name of the call, or its options', async () => {
    expect(await keyOf(first({ workers: 64 }, { name: 'other', retries: 3 }))).toBe(await keyOf(first({})))
  })

  it('counts the files of an artifact and its facts, not its folder', async () => {
    const key = await keyOf(first({ text: await text('hello') }))
    const sub = await mkdtemp(join(dir, 'moved-'))
    await writeFile(join(sub, 'a.txt'), 'hello')
    expect(await keyOf(first({ text: { kind: 'text', path: join(sub, 'a.txt'), language: 'zh' } }))).toBe(key)
    expect(await keyOf(first({ text: await text('hello', 'a.txt', 'en') }))).not.toBe(key)
    expect(await keyOf(first({ text: await text('hellO') }))).not.toBe(key)
  })

  it('counts the key of what a ref comes from and the field that it names', async () => {
    const a = first({ n: 1 })
    expect(await keyOf(second({ n: a.n }))).toBe(await keyOf(second({ n: first({ n: 1 }).n })))
    expect(await keyOf(second({ n: a.n }))).not.toBe(await keyOf(second({ n: first({ n: 2 }).n })))
    expect(await keyOf(second({ n: 1, list: [a.n] }))).not.toBe(await keyOf(second({ n: 1, list: [1] })))
  })

  it.each([
    ['a Date', { at: new Date(0) }, 'first.options.at: a Date'],
    ['NaN', { list: [Number.NaN] }, 'first.options.list.0: NaN'],
    ['a Map', { map: new Map() }, 'first.options.map: a Map'],
    ['a bigint', { big: 1n }, 'first.options.big: a bigint'],
  ])('cannot hold %s, and the error names the field', async (_, options, message) => {
    await expect(keyOf(first({ options }))).rejects.toThrow(`${message} cannot be part of a key`)
  })

  it('does not depend on the order in which fields are written', async () => {
    expect(await keyOf(first({ options: { a: 1, b: 2 } }))).toBe(await keyOf(first({ options: { b: 2, a: 1 } })))
  })
})

describe('the reason of a miss', () => {
  const reasonOf = async (ref: Ref<unknown>) => (await plan(ref, { store: dir })).steps.at(-1)!.reason

  it('is that the step was never run, in an empty store', async () => {
    expect(await reasonOf(first({}))).toBe('never run in this store')
  })

  it('says what changed against the nearest earlier record', async () => {
    const { run } = await import('ascendflow')
    const input = await text('one')
    await run({ a: first({ n: 1, text: input }), b: first({ n: 2, options: { x: 1 } }, { name: 'b' }) }, { store: dir })
    await text('two')
    expect(await reasonOf(first({ n: 1, text: input }))).toMatch(
      /^text\.a\.txt changed \(sha256 7692c3ad… → sha256 3fc4ccfe…\)$/,
    )
    expect(await reasonOf(first({ n: 4, options: { x: 1 } }))).toBe('n 2 → 4')
    expect(await reasonOf(second({ n: first({ n: 9 }).n }))).toBe('never run in this store')
    await run(second({ n: first({ n: 1 }).n }), { store: dir })
    expect(await reasonOf(second({ n: first({ n: 9 }).n }))).toBe('n: first changed')
  })
})
