import { readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Anchors, readRecord, type StepRecord } from './record.ts'

/** The places of one call in a store. */
export interface StepPlaces extends Anchors {
  readonly dir: string
  readonly record: string
  readonly job: string
  readonly lock: string
  readonly log: string
  readonly attempts: string
}

/** Folder of the store; default `.ascendflow` in the working folder. */
export function storeFolder(store: string | undefined): string {
  return resolve(store ?? '.ascendflow')
}

/** `<store>/steps/<step>-<key12>/` and what lies in it. */
export function stepPlaces(store: string, step: string, key: string): StepPlaces {
  const dir = join(store, 'steps', `${step}-${key.slice(0, 12)}`)
  return {
    store,
    dir,
    workDir: join(dir, 'work'),
    record: join(dir, 'record.json'),
    job: join(dir, 'job.json'),
    lock: join(dir, 'lock'),
    log: join(dir, 'log.txt'),
    attempts: join(dir, 'attempts'),
  }
}

/** All records of a step in a store, newest first. */
export async function recordsOf(store: string, step: string): Promise<readonly StepRecord[]> {
  const folders = await readdir(join(store, 'steps')).catch(() => [])
  const records = await Promise.all(
    folders
      .filter(folder => folder.slice(0, -13) === step && folder.at(-13) === '-')
      .map(folder => {
        const dir = join(store, 'steps', folder)
        return readRecord(join(dir, 'record.json'), { store, workDir: join(dir, 'work') })
      }),
  )
  return records.filter(record => record !== undefined).sort((a, b) => (a.finishedAt < b.finishedAt ? 1 : -1))
}
