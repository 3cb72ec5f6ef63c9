import { InputError } from '../errors.ts'
import { backingOf, refsIn, replaceRefs } from './backing.ts'
import type { Call } from './call.ts'

/** Calls whose output `call` needs or that it must come after. */
export function upstreamOf(call: Call): readonly Call[] {
  return [...refsIn(call.input), ...refsIn(call.options.after ?? [])].map(backing => backing.call)
}

/**
 * All calls reachable from `target`, each after those it depends on. There are no cycles: a ref exists before it
 * is used.
 */
export function callsOf(target: unknown): readonly Call[] {
  const ordered = new Set<Call>()
  // A stack of our own, for graphs deeper than the call stack.
  const stack = refsIn(target)
    .map(backing => ({ call: backing.call, opened: false }))
    .reverse()
  while (stack.length > 0) {
    const top = stack[stack.length - 1]!
    if (top.opened || ordered.has(top.call)) {
      ordered.add(top.call)
      stack.pop()
      continue
    }
    top.opened = true
    for (const call of [...upstreamOf(top.call)].reverse()) if (!ordered.has(call)) stack.push({ call, opened: false })
  }
  return [...ordered]
}

/** `value` with every ref replaced by what its call gave. */
export function resolveRefs(value: unknown, outputOf: (call: Call) => unknown): unknown {
  return replaceRefs(value, ({ call, path }) =>
    path.reduce<unknown>((output, field) => {
      if (typeof output !== 'object' || output === null || !(field in output))
        throw new InputError(`${[call.name, ...path].join('.')}: the output of ${call.name} has no field '${field}'.`)
      return (output as Record<string, unknown>)[field]
    }, outputOf(call)),
  )
}

/** True when `target` is a ref or a record that holds nothing but refs and such records. */
export function isTarget(target: unknown): boolean {
  if (backingOf(target)) return true
  return (
    typeof target === 'object' &&
    target !== null &&
    Object.values(target).length > 0 &&
    Object.values(target).every(isTarget)
  )
}
