import type { PickleValue } from './pickle-value.ts'

type Refuse = (expected: string, found: string) => never

const maxDepth = 200
const maxNodes = 4_000_000

/**
 * Refuses values that contain themselves, nest deeper than `maxDepth`, or come to more than `maxNodes` when what is
 * shared counts each time, so that readers may recurse.
 */
export function checkDepth(root: PickleValue, refuse: Refuse): void {
  const done = new Map<object, { height: number; nodes: number }>()
  const open = new Set<object>()
  const pending: { node: object; children: object[]; height: number; nodes: number }[] = []
  const addTo = (
    parent: { height: number; nodes: number } | undefined,
    of: { height: number; nodes: number },
  ): void => {
    if (parent === undefined) return
    parent.height = Math.max(parent.height, of.height + 1)
    parent.nodes += of.nodes
    if (parent.nodes > maxNodes) refuse(`at most ${maxNodes} values, shared ones counted each time`, 'more')
  }
  const enter = (node: object): void => {
    open.add(node)
    if (open.size > maxDepth) refuse(`values up to ${maxDepth} deep`, 'deeper ones')
    pending.push({ node, children: childrenOf(node), height: 0, nodes: 1 })
  }
  if (typeof root === 'object' && root !== null) enter(root)
  while (pending.length > 0) {
    const top = pending.at(-1)!
    const child = top.children.pop()
    if (child === undefined) {
      if (top.height >= maxDepth) refuse(`values up to ${maxDepth} deep`, 'deeper ones')
      done.set(top.node, { height: top.height, nodes: top.nodes })
      open.delete(top.node)
      pending.pop()
      addTo(pending.at(-1), top)
    } else if (open.has(child)) refuse('values that do not contain themselves', 'a circle')
    else if (done.has(child)) addTo(top, done.get(child)!)
    else enter(child)
  }
}

function childrenOf(node: object): object[] {
  const value = node as PickleValue
  const children: readonly unknown[] = Array.isArray(value)
    ? value
    : value instanceof Map
      ? [...value.keys(), ...value.values()]
      : isType(value, 'tuple')
        ? value.items
        : isType(value, 'ordered-dict')
          ? [value.entries, value.attributes]
          : isType(value, 'namespace')
            ? [value.fields]
            : isType(value, 'object')
              ? [...value.args, value.state]
              : []
  return children.filter(
    child => typeof child === 'object' && child !== null && !(child instanceof Uint8Array),
  ) as object[]
}

type Typed = Extract<PickleValue, { readonly type: string }>

function isType<T extends Typed['type']>(value: PickleValue, type: T): value is Extract<Typed, { readonly type: T }> {
  return typeof value === 'object' && value !== null && 'type' in value && value.type === type
}
