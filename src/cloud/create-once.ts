import { setTimeout as sleep } from 'node:timers/promises'
import { ServiceError } from '../errors.ts'

/** How a thing that has a name is created. */
export interface Creation<T> {
  /** The thing of exactly this name; undefined when there is none. */
  find(): Promise<T | undefined>
  create(): Promise<T>
  /** True for the refusal of a name that another thing has. */
  isTaken?(error: ServiceError): boolean
}

export interface CreateOptions {
  readonly signal?: AbortSignal | undefined
  /** Wait before a lost creation is looked for, in ms; default 5,000. */
  readonly pollMs?: number | undefined
}

const creations = 5
/** What was just created may not be listed at once: one look is no proof that it is not there. */
const looksAfterLoss = 3

/**
 * Creates a thing, or gives the one that has its name: no answer to a creation does not mean that there was none. Safe
 * to repeat after a crash at any point, as long as nobody else creates things of that name at the same moment.
 */
export async function createOnce<T>(creation: Creation<T>, options: CreateOptions = {}): Promise<T> {
  const { signal, pollMs = 5_000 } = options
  const found = await creation.find()
  if (found !== undefined) return found
  for (let tries = 1; ; tries++) {
    try {
      return await creation.create()
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error
      const isTaken = creation.isTaken?.(error) ?? false
      if (!isTaken && !error.retryable) throw error
      for (let looks = 0; looks < looksAfterLoss; looks++) {
        await sleep(pollMs, undefined, signal ? { signal } : {})
        const made = await creation.find()
        if (made !== undefined) return made
      }
      // The name is another's whom we may not see, or the service does not come back.
      if (isTaken || tries === creations) throw error
    }
  }
}
