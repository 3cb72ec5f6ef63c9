import type { CreateOptions } from '../create-once.ts'
import type { WaitOptions } from '../wait-until.ts'
import type { AccountSurvey, Clients } from './account-survey.ts'
import type { Made, MadeRecord } from './made-record.ts'
import type { ProvisionItem } from './provision-items.ts'
import type { ProvisionOptions } from './provision-options.ts'

export interface CarryOutOptions {
  readonly signal?: AbortSignal
  /** Told what is being done, as a line for people. */
  onProgress?(line: string): void
}

/** What is to be made, and of whom. */
export interface Work {
  readonly clients: Clients
  readonly options: ProvisionOptions
  readonly survey: AccountSurvey
  readonly items: readonly ProvisionItem[]
}

/** How things are made while `items` are carried out. */
export interface Making extends Work {
  readonly signal?: AbortSignal | undefined
  readonly creating: CreateOptions
  /** How `what` is waited for. */
  waiting(what: string): WaitOptions
  isMissing(kind: ProvisionItem['kind'], name: string): boolean
  /**
   * Makes a thing or takes the one that there is, and gives its id. What is missing is noted before it is made and with
   * its id after it, so that a crash leaves no doubt whose it is.
   */
  make(thing: Omit<Made, 'id'>, create: () => Promise<string>): Promise<string>
}

export function makingOf(work: Work, record: MadeRecord, { signal, onProgress }: CarryOutOptions): Making {
  const { pollMs, patienceMs } = work.options
  const isMissing: Making['isMissing'] = (kind, name) =>
    work.items.some(item => item.kind === kind && item.name === name && item.state === 'create')
  return {
    ...{ ...work, signal, creating: { signal, pollMs }, isMissing },
    waiting: what => {
      return { pollMs, timeoutMs: patienceMs, signal, onState: state => onProgress?.(`${what}: ${state}`) }
    },
    async make(thing, create) {
      const { kind, name } = thing
      const isNew = isMissing(kind, name)
      if (isNew) await record.note(thing, signal)
      const noted = record.find(kind, name)
      const id = await create()
      // Of the same name and not the one that was made: ours was deleted, and this is another's.
      if (noted?.id !== undefined && noted.id !== id) await record.forget(noted, signal)
      else if (noted) await record.note({ ...thing, id }, signal)
      onProgress?.(`${kind} ${name}: ${isNew ? 'made' : 'there'}`)
      return id
    },
  }
}
