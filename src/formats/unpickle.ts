import { FormatError, UnsupportedError } from '../errors.ts'
import { checkDepth } from './pickle-depth.ts'
import type { PickleNamespace, PickleOrderedDict, PickleTuple, PickleValue } from './pickle-value.ts'

/** A class or function that a pickle names: a finished value, or what to make of its arguments. */
export type PickleGlobal =
  | { readonly kind: 'value'; readonly value: PickleValue }
  | {
      readonly kind: 'call'
      readonly call: (args: readonly PickleValue[], context: CallContext) => PickleValue
      /** What it stands for as an argument of another function; without it, it is refused there. */
      readonly argument?: PickleValue
    }

/** What a function of the allow-list is bound by. */
export interface CallContext {
  readonly refuse: Refuse
  /** Counts values that it makes; refuses too many. */
  readonly spend: (values: number) => void
  /** Refuses what must not be a key. */
  readonly checkKey: (key: PickleValue) => void
}

/** Throws FormatError at the opcode being read. */
export type Refuse = (expected: string, found: string) => never

export interface UnpickleOptions {
  /** File that the pickle lies in, for messages. */
  readonly file: string
  /** Position of the pickle in that file. */
  readonly offset: number
  /** The allow-list: what `module` and `name` stand for, or undefined to refuse them. */
  readonly global: (module: string, name: string) => PickleGlobal | undefined
  /** What a persistent id stands for. */
  readonly persistent: (id: PickleValue, refuse: Refuse) => PickleValue
}

const maxStack = 250_000
const maxMemo = 250_000
const maxMarks = 1_000
/**
 * What a pickle may make, in units of a plain value on the stack; what takes more memory counts for more. A parameter
 * with its optimizer state takes some 450; a shard of a dense model has up to a thousand.
 */
const maxValues = 1_250_000
const costs = { dict: 20, list: 4, text: 2 } as const
/** Keys that are numbers (an optimizer's parameters): their places in a Map can be chosen to collide. */
const maxNumberKeys = 16_384

type Writable = { -readonly [K in keyof PickleOrderedDict]: PickleOrderedDict[K] }
type StackItem = PickleValue | PickleGlobal

/**
 * The value of a protocol 2 pickle, as inert data. Knows only the opcodes that `torch.save` emits and calls nothing
 * but the functions of `options.global`; depth, stack and memo are limited.
 *
 * Source: CPython, Lib/pickletools.py.
 * @throws FormatError for damage and for a value that contains itself; UnsupportedError for what is not allowed.
 */
export function unpickle(bytes: Uint8Array, options: UnpickleOptions): PickleValue {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const text = new TextDecoder('utf-8', { fatal: true })
  const memo = new Map<number, StackItem>()
  const marks: number[] = []
  const stack: StackItem[] = []
  let at = 0
  let opcodeAt = 0

  const refuse: Refuse = (expected, found) => {
    throw new FormatError({ file: options.file, offset: options.offset + opcodeAt, expected, found })
  }
  const take = (length: number): number => {
    if (at + length > bytes.length)
      refuse(`${length} bytes after the opcode`, `${bytes.length - at} left in the pickle`)
    at += length
    return at - length
  }
  let spent = 0
  const spend = (values: number): void => {
    spent += values
    if (spent > maxValues) refuse(`values that come to at most ${maxValues}`, 'more')
  }
  let numberKeys = 0
  const checkKey = (key: PickleValue): void => {
    if (typeof key === 'bigint') refuse('keys of less than 2^53', `${key}`)
    if (typeof key === 'number' && ++numberKeys > maxNumberKeys) refuse(`at most ${maxNumberKeys} number keys`, 'more')
  }
  const push = (value: StackItem, cost = 1): void => {
    spend(cost)
    if (stack.length >= maxStack) refuse(`at most ${maxStack} values on the stack`, 'more')
    stack.push(value)
  }
  const popItem = (): StackItem => {
    if (stack.length <= (marks.at(-1) ?? 0)) refuse('a value on the stack', 'an empty stack')
    return stack.pop()!
  }
  const pop = (): PickleValue => plainValue(popItem(), refuse)
  const popMark = (): PickleValue[] => {
    const mark = marks.pop()
    if (mark === undefined) refuse('a mark on the stack', 'none')
    return stack.splice(mark).map(item => plainValue(item, refuse))
  }
  const tuple = (items: readonly PickleValue[]): PickleTuple => ({ type: 'tuple', items })
  const string = (length: number): string => {
    const start = take(length)
    try {
      return text.decode(bytes.subarray(start, at))
    } catch {
      return refuse('UTF-8', 'other bytes')
    }
  }
  const line = (): string => {
    const end = bytes.indexOf(10, at)
    if (end < 0 || end - at > 256)
      return refuse('a line of up to 256 bytes', end < 0 ? 'no end of line' : 'a longer one')
    const value = string(end - at)
    at = end + 1
    return value
  }
  const remember = (key: number): void => {
    const top = stack.at(-1)
    if (top === undefined || stack.length <= (marks.at(-1) ?? 0)) refuse('a value to remember', 'an empty stack')
    spend(costs.list)
    if (memo.size >= maxMemo) refuse(`at most ${maxMemo} remembered values`, 'more')
    memo.set(key, top!)
  }
  const recall = (key: number): void => {
    if (!memo.has(key)) refuse(`value ${key}, remembered before`, 'nothing')
    push(memo.get(key)!)
  }
  const append = (items: readonly PickleValue[]): void => {
    const list = stack.at(-1)
    if (!Array.isArray(list)) refuse('a list to append to', nameOf(list))
    for (const item of items) list.push(item)
  }
  const setItems = (items: readonly PickleValue[]): void => {
    const target = stack.at(-1)
    const entries =
      target instanceof Map
        ? target
        : isOrderedDict(target)
          ? (target.entries as Map<PickleValue, PickleValue>)
          : undefined
    if (entries === undefined) refuse('a dict to fill', nameOf(target))
    if (items.length % 2 === 1) refuse('pairs of key and value', `${items.length} values`)
    for (let i = 0; i < items.length; i += 2) {
      checkKey(items[i]!)
      entries.set(items[i]!, items[i + 1]!)
    }
  }
  const call = (): void => {
    const args = pop()
    const made = popItem()
    if (!isTuple(args)) refuse('a tuple of arguments', nameOf(args))
    if (!isGlobal(made) || made.kind !== 'call') refuse('a class or function to call', nameOf(made))
    push(made.call(args.items, { refuse, spend, checkKey }), costs.dict)
  }
  const build = (): void => {
    const state = pop()
    const target = stack.at(-1)
    if (isNamespace(target) && state instanceof Map) {
      for (const [name, value] of state) {
        if (typeof name !== 'string') refuse('argument names', nameOf(name))
        ;(target.fields as Map<string, PickleValue>).set(name, value)
      }
    } else if (isOrderedDict(target)) (target as Writable).attributes = state
    else if (isObject(target)) (target as { state?: PickleValue }).state = state
    else refuse('an object to give a state', nameOf(target))
  }
  const long = (): number | bigint => {
    const length = bytes[take(1)]!
    if (length > 8) refuse('an integer of up to 8 bytes', `${length} bytes`)
    const start = take(length)
    let value = 0n
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[start + i]!)
    value = BigInt.asIntN(8 * length, value)
    return BigInt(Number.MIN_SAFE_INTEGER) <= value && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value
  }
  const global = (): void => {
    const module = line()
    const name = line()
    const found = options.global(module, name)
    if (found === undefined) {
      throw new UnsupportedError(
        `${options.file}: the pickle asks for ${module}.${name} (byte ${options.offset + opcodeAt}), which is not allowed.`,
        { hint: 'Only the classes that Megatron checkpoints hold are read; nothing was executed.' },
      )
    }
    push(found.kind === 'value' ? found.value : found)
  }

  const opcodes: Readonly<Record<number, () => void>> = {
    [code('}')]: () => push(new Map(), costs.dict),
    [code(']')]: () => push([], costs.list),
    [code(')')]: () => push(tuple([]), costs.list),
    [code('N')]: () => push(null),
    136: () => push(true),
    137: () => push(false),
    [code('K')]: () => push(bytes[take(1)]!),
    [code('M')]: () => push(view.getUint16(take(2), true)),
    [code('J')]: () => push(view.getInt32(take(4), true)),
    138: () => push(long(), costs.text),
    [code('G')]: () => push({ type: 'float', value: view.getFloat64(take(8), false) }, costs.list),
    [code('X')]: () => push(string(view.getUint32(take(4), true)), costs.text),
    [code('(')]: () => {
      if (marks.length >= maxMarks) refuse(`at most ${maxMarks} open marks`, 'more')
      marks.push(stack.length)
    },
    [code('t')]: () => push(tuple(popMark()), costs.list),
    133: () => push(tuple([pop()]), costs.list),
    134: () => push(tuple([pop(), pop()].reverse()), costs.list),
    135: () => push(tuple([pop(), pop(), pop()].reverse()), costs.list),
    [code('a')]: () => append([pop()]),
    [code('e')]: () => append(popMark()),
    [code('s')]: () => setItems([pop(), pop()].reverse()),
    [code('u')]: () => setItems(popMark()),
    [code('q')]: () => remember(bytes[take(1)]!),
    [code('r')]: () => remember(view.getUint32(take(4), true)),
    [code('h')]: () => recall(bytes[take(1)]!),
    [code('j')]: () => recall(view.getUint32(take(4), true)),
    [code('c')]: global,
    [code('R')]: call,
    129: call,
    [code('b')]: build,
    [code('Q')]: () => push(options.persistent(pop(), refuse), costs.list),
  }

  if (bytes[0] !== 128 || bytes[1] !== 2) refuse('a pickle of protocol 2', `bytes ${bytes[0]}, ${bytes[1]}`)
  at = 2
  for (;;) {
    opcodeAt = at
    const opcode = bytes[take(1)]!
    if (opcode === code('.')) break
    const carryOut = opcodes[opcode]
    if (carryOut === undefined) refuse('an opcode that torch.save writes', `0x${opcode.toString(16).padStart(2, '0')}`)
    carryOut!()
  }
  if (stack.length !== 1 || marks.length > 0) refuse('one value at the end', `${stack.length} values`)
  const value = pop()
  checkDepth(value, refuse)
  return value
}

function plainValue(item: StackItem, refuse: Refuse): PickleValue {
  if (!isGlobal(item)) return item
  return (item.kind === 'call' ? item.argument : item.value) ?? refuse('a value', 'a class or function')
}

function isGlobal(item: StackItem | undefined): item is PickleGlobal {
  return typeof item === 'object' && item !== null && 'kind' in item
}

function typeOf(item: StackItem | undefined): string | undefined {
  return typeof item === 'object' && item !== null && 'type' in item ? item.type : undefined
}

const isTuple = (item: StackItem | undefined): item is PickleTuple => typeOf(item) === 'tuple'
const isOrderedDict = (item: StackItem | undefined): item is PickleOrderedDict => typeOf(item) === 'ordered-dict'
const isNamespace = (item: StackItem | undefined): item is PickleNamespace => typeOf(item) === 'namespace'
const isObject = (item: StackItem | undefined): item is Extract<PickleValue, { type: 'object' }> =>
  typeOf(item) === 'object'

function nameOf(item: StackItem | undefined): string {
  if (item === undefined) return 'nothing'
  if (item === null) return 'None'
  if (item instanceof Map) return 'a dict'
  return Array.isArray(item) ? 'a list' : (typeOf(item) ?? typeof item)
}

function code(character: string): number {
  return character.charCodeAt(0)
}
