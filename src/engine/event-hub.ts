import { EventEmitter } from 'eventemitter3'
import type { EventOf, FlowEvent } from '../flow/event.ts'

/** How many events an iterator may lag behind before whoever makes events waits for it. */
const highWater = 1024

/** Gives each event to listeners at once and to iterators at their own pace. */
export interface EventHub {
  emit(event: FlowEvent): void
  on<T extends FlowEvent['type']>(type: T, listener: (event: EventOf<T>) => void): void
  /** All events from now on; ends when the hub is closed. */
  events(): AsyncIterableIterator<FlowEvent>
  /** Resolves when no iterator lags: awaited where events are made in a loop, it is the back-pressure. */
  settled(): Promise<void>
  close(): void
}

interface Reader {
  readonly queue: FlowEvent[]
  wake: () => void
  /** One that was made and never read holds nobody up. */
  started: boolean
  done: boolean
}

const lags = (reader: Reader) => reader.started && reader.queue.length >= highWater

/** An event hub; `onListenerError` gets what a listener throws, which harms nothing else. */
export function createEventHub(onListenerError: (error: unknown) => void): EventHub {
  const emitter = new EventEmitter<Record<string, [FlowEvent]>>()
  const readers = new Set<Reader>()
  const waiting = new Set<() => void>()
  const release = () => {
    if ([...readers].some(lags)) return
    for (const resume of waiting) resume()
    waiting.clear()
  }
  return {
    emit: event => {
      emitter.emit(event.type, event)
      for (const reader of readers) {
        reader.queue.push(event)
        reader.wake()
      }
    },
    on: (type, listener) => {
      emitter.on(type, event => {
        try {
          listener(event as Parameters<typeof listener>[0])
        } catch (error) {
          onListenerError(error)
        }
      })
    },
    events: () => {
      const reader: Reader = { queue: [], wake: () => {}, started: false, done: false }
      readers.add(reader)
      const end = () => {
        reader.done = true
        readers.delete(reader)
        release()
      }
      return (async function* () {
        reader.started = true
        try {
          for (;;) {
            while (reader.queue.length > 0) {
              const event = reader.queue.shift()!
              if (reader.queue.length === highWater - 1) release()
              yield event
            }
            if (reader.done) return
            await new Promise<void>(resolve => {
              reader.wake = resolve
            })
          }
        } finally {
          end()
        }
      })()
    },
    settled: () => ([...readers].some(lags) ? new Promise(resolve => waiting.add(resolve)) : Promise.resolve()),
    close: () => {
      for (const reader of readers) {
        reader.done = true
        reader.wake()
      }
      for (const resume of waiting) resume()
    },
  }
}
