import { randomUUID } from 'node:crypto'
import type { DoubleAnswer, DoubleRequest } from './double-request.ts'
import { Refusal } from './refusal.ts'

/** What an account of the double has besides jobs and objects. */
export type DoubleKind = 'network' | 'share' | 'link' | 'target' | 'task' | 'image' | 'notebook'

/** Something that is created, takes its time until it is ready, and is deleted. */
export interface DoubleThing<T> {
  readonly kind: DoubleKind
  readonly id: string
  readonly name: string
  /** What it was asked to be. */
  readonly asked: T
  /** A state that it was brought to since: stopped, being deleted. */
  state?: string
  /** Looks at it since it began to change. */
  looks: number
}

export interface ThingsOptions {
  /** Looks during which a thing is still being made, or removed. */
  readonly pollsBeforeReady: number
  /** The state that a thing comes to instead of the one that is wished for. */
  endsAs(thing: { readonly kind: DoubleKind; readonly name: string }): string | undefined
  /** How many of a kind there may be. */
  readonly quotas: Partial<Readonly<Record<DoubleKind, number>>>
}

/** All things of one kind. */
export interface Things<T> {
  readonly all: readonly DoubleThing<T>[]
  add(name: string, asked: T): DoubleThing<T>
  get(id: string | undefined): DoubleThing<T> | undefined
  /** The state to tell: `making` for some looks, then `ready`, or how it was told to end. */
  stateOf(thing: DoubleThing<T>, states: { readonly making: string; readonly ready: string }): string
  /** Removes it: at once, or as one that is told to be in `state` for some looks. */
  remove(thing: DoubleThing<T>, state?: string): void
  /** True when there may be one more. */
  readonly hasRoom: boolean
}

export function things<T>(kind: DoubleKind, options: ThingsOptions): Things<T> {
  const all = new Map<string, DoubleThing<T>>()
  const removed = new Set<string>()
  const look = (thing: DoubleThing<T>) => {
    thing.looks++
    if (removed.has(thing.id) && thing.looks > options.pollsBeforeReady) all.delete(thing.id)
  }
  return {
    get all() {
      // What is being removed is gone after some looks at the list, too.
      for (const thing of all.values()) if (removed.has(thing.id)) look(thing)
      return [...all.values()]
    },
    add(name, asked) {
      const thing = { kind, id: randomUUID(), name, asked, looks: 0 }
      all.set(thing.id, thing)
      return thing
    },
    get(id) {
      const thing = all.get(id ?? '')
      if (thing) look(thing)
      return all.get(id ?? '')
    },
    stateOf(thing, { making, ready }) {
      if (thing.state !== undefined) return thing.state
      if (thing.looks <= options.pollsBeforeReady) return making
      return options.endsAs(thing) ?? ready
    },
    remove(thing, state) {
      if (state === undefined) return void all.delete(thing.id)
      removed.add(thing.id)
      thing.state = state
      thing.looks = 0
    },
    get hasRoom() {
      return all.size < (options.quotas[kind] ?? Number.POSITIVE_INFINITY)
    },
  }
}

/** Answers a request below the project; undefined for a path that is not its own. */
export type ThingRoute = (path: readonly string[], request: DoubleRequest) => DoubleAnswer | undefined

/** One page of rows, `offset` rows in. */
export function pageOf<T>(rows: readonly T[], { searchParams }: URL, most = 1000): readonly T[] {
  const [offset, limit] = [Number(searchParams.get('offset') ?? 0), Number(searchParams.get('limit') ?? 10)]
  if (!(limit >= 1 && limit <= most && offset >= 0)) throw new Refusal(400, 'ModelArts.2788', 'offset, limit')
  return rows.slice(offset, offset + limit)
}

/** A body of JSON. */
export function bodyOf({ bytes, headers }: DoubleRequest): unknown {
  if (!/^application\/(merge-patch\+)?json/.test(headers['content-type'] ?? ''))
    throw new Refusal(415, 'APIG.0101', 'The content type is not JSON.')
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    throw new Refusal(400, 'ModelArts.2787', 'The body is not JSON.')
  }
}
