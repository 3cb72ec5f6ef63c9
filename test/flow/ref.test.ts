import { inspect } from 'node:util'
import { defineStep, InputError } from 'ascendflow'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'

const source = defineStep({
  name: 'source',
  version: 1,
  input: z.object({
    path: z.string(),
    share: z.number().min(0).max(1).default(0.5),
    tags: z.array(z.string()).optional(),
  }),
  output: z.object({ tokens: z.number(), nested: z.object({ name: z.string() }) }),
}).run(() => ({ tokens: 1, nested: { name: 'x' } }))

describe('a ref', () => {
  const ref = source({ path: 'a' })

  it('lifts the fields of its output to any depth', () => {
    expect(inspect(ref.nested.name)).toBe('Ref<source.nested.name>')
  })

  it.each([
    ['in a template', () => `${ref.tokens}`],
    ['as JSON', () => JSON.stringify({ ref })],
    ['added to a number', () => (ref.tokens as unknown as number) + 1],
    ['spread', () => ({ ...ref })],
  ])('used as its value %s throws an error that says what to do instead', (_, use) => {
    expect(use).toThrow(/source(\.tokens)? is not known until the step has run; pass the ref itself to a step/)
  })

  it('is not taken for a promise', async () => {
    expect(await Promise.resolve(ref)).toBe(ref)
  })
})

describe('calling a step', () => {
  const failure = (make: () => unknown) => {
    try {
      make()
    } catch (error) {
      return error as InputError
    }
    throw new Error('it did not throw')
  }

  it('refuses a bad field at once, naming step, field, limit and the place of the call', () => {
    const error = failure(() => source({ path: 'a', share: 2 }))
    expect(error).toBeInstanceOf(InputError)
    expect(error.message).toMatch(
      /^source\.share: Too big: expected number to be <=1\.\n {4}at test\/flow\/ref\.test\.ts:\d+$/,
    )
    expect([error.code, error.step, error.field]).toEqual(['invalid-input', 'source', 'share'])
  })

  it('names the path inside a field', () => {
    expect(failure(() => source({ path: 'a', tags: ['x', 3 as unknown as string] })).field).toBe('tags.1')
  })

  it('refuses a missing field', () => {
    expect(failure(() => source({} as { path: string })).message).toMatch(/^source\.path: /)
  })

  it('refuses a field that the step does not have, listing those it has', () => {
    const misspelt = { path: 'a', shard: 1 }
    expect(failure(() => source(misspelt)).message).toContain(
      "source: there is no input 'shard'; it takes path, share, tags.",
    )
  })

  it('refuses a name that cannot be the name of a folder', () => {
    expect(failure(() => source({ path: 'a' }, { name: '../x' })).code).toBe('invalid-plan')
  })
})
