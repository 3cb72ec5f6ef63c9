import { backingOf, makeRef } from '../flow/backing.ts'
import type { Call } from '../flow/call.ts'

/** A call as it is carried out, and what its step puts before it. */
export interface WithInserted {
  readonly call: Call
  readonly inserted: readonly Call[]
}

/**
 * Puts before a call what its step says that it needs, of the parts of its input that are `known`. What is inserted is
 * named after the call and its own step, and is a call like any other.
 */
export function insertCalls(call: Call, known: Readonly<Record<string, unknown>>): WithInserted {
  const refs = Object.entries(call.step.spec.insert?.(known, call.input) ?? {})
  const inserted: Call[] = []
  const replaced = refs.map(([field, ref]) => {
    const { call: made, path } = backingOf(ref)!
    const step = made.step.spec.name
    const name = `${call.name.slice(0, 63 - step.length)}-${step}`
    const { at: _, ...rest } = made
    const before: Call = { ...rest, name, ...(call.at ? { at: call.at } : {}) }
    inserted.push(before)
    return [field, makeRef({ call: before, path })] as const
  })
  if (replaced.length === 0) return { call, inserted }
  return { call: { ...call, input: { ...call.input, ...Object.fromEntries(replaced) } }, inserted }
}
