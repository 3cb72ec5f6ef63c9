import { inspect } from 'node:util'
import type { Call } from './call.ts'
import type { Ref } from './ref.ts'

const backingKey: unique symbol = Symbol.for('ascendflow.ref') as never

/** Where a ref comes from: the call, and the path into its output. */
export interface Backing {
  readonly call: Call
  readonly path: readonly string[]
}

/** A ref to the field at `path` of `call`'s output. */
export function makeRef(backing: Backing): Ref<unknown> {
  const text = [backing.call.name, ...backing.path].join('.')
  const notYet = () => {
    throw new TypeError(
      `${text} is not known until the step has run; pass the ref itself to a step, or run() it first.`,
    )
  }
  const target = Object.create(null, { [inspect.custom]: { value: () => `Ref<${text}>` } })
  return new Proxy(target, {
    get(_target, key) {
      if (key === backingKey) return backing
      if (key === Symbol.toPrimitive || key === 'toString' || key === 'valueOf' || key === 'toJSON') return notYet
      if (typeof key === 'symbol' || key === 'then') return undefined
      return makeRef({ call: backing.call, path: [...backing.path, key] })
    },
    // Spreading or listing a ref would silently give nothing.
    ownKeys: notYet,
    set: notYet,
  }) as Ref<unknown>
}

/** What is behind a ref; undefined for anything that is not one. */
export function backingOf(value: unknown): Backing | undefined {
  return typeof value === 'object' && value !== null
    ? (value as { readonly [backingKey]?: Backing })[backingKey]
    : undefined
}

/** Every ref inside a value, in order. */
export function refsIn(value: unknown): readonly Backing[] {
  const backing = backingOf(value)
  if (backing) return [backing]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(refsIn) : []
}

/** A copy of `value` in which `replace` has been put for each ref; what holds no ref is kept as it is. */
export function replaceRefs(value: unknown, replace: (backing: Backing) => unknown): unknown {
  const backing = backingOf(value)
  if (backing) return replace(backing)
  if (Array.isArray(value)) return value.map(item => replaceRefs(item, replace))
  if (typeof value !== 'object' || value === null || refsIn(value).length === 0) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, replaceRefs(item, replace)]))
}
