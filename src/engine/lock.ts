import { link, mkdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { z } from 'zod'
import { LockedError } from '../errors.ts'
import { siblingTemp } from '../formats/atomic-file.ts'
import { isAlive, type ProcessIdentity, processIdentity } from '../process-identity.ts'
import { asStoreError } from './store-error.ts'

const Identity = z.object({ host: z.string(), pid: z.number(), started: z.string() })

/** How often the holder touches its lock, and when a lock of another host counts as left behind. */
const beatMs = 20_000
const foreignStaleMs = 120_000
/** Taking over a dead process's lock is a few system calls; one who died in between is not waited for longer. */
const takeoverMs = 5_000

/**
 * Takes the lock file at `path` and returns the function that gives it back.
 *
 * The file names its process by pid and start time, so that a process that died holds it no longer; on another
 * host (a shared store) a lock counts as left behind when it was not touched for two minutes.
 * @throws LockedError when a live process holds it.
 */
export async function takeLock(path: string, what: string): Promise<() => Promise<void>> {
  const mine = JSON.stringify(processIdentity())
  await mkdir(dirname(path), { recursive: true }).catch(asStoreError(dirname(path)))
  if (!(await createWith(path, mine))) {
    await removeIfDead(path, what)
    if (!(await createWith(path, mine))) throw lockedBy(await readIdentity(path), path, what)
  }
  const beat = setInterval(() => void utimes(path, new Date(), new Date()).catch(() => {}), beatMs)
  beat.unref()
  return async () => {
    clearInterval(beat)
    await rm(path, { force: true })
  }
}

/** Makes the file with its content at once: a link either appears whole or fails because the name is taken. */
async function createWith(path: string, content: string): Promise<boolean> {
  const temporary = siblingTemp(path)
  try {
    await writeFile(temporary, content, { flag: 'wx' })
    await link(temporary, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw asStoreError(path)(error)
  } finally {
    await rm(temporary, { force: true })
  }
}

/** Only the holder of `PATH.takeover` may remove a dead process's lock, so that nobody removes a live one instead. */
async function removeIfDead(path: string, what: string): Promise<void> {
  const takeover = `${path}.takeover`
  if ((await ageMs(takeover)) > takeoverMs) await rm(takeover, { force: true })
  if (!(await createWith(takeover, ''))) throw lockedBy(await readIdentity(path), path, what)
  try {
    const holder = await readIdentity(path)
    if (holder === undefined) return
    const dead = holder.host === hostname() ? !isAlive(holder) : (await ageMs(path)) > foreignStaleMs
    if (!dead) throw lockedBy(holder, path, what)
    await rm(path, { force: true })
  } finally {
    await rm(takeover, { force: true })
  }
}

async function readIdentity(path: string): Promise<ProcessIdentity | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  try {
    return Identity.parse(JSON.parse(text))
  } catch {
    // Half a file cannot come from us; treat it as nobody's, and so as dead.
    return { host: hostname(), pid: 0, started: '' }
  }
}

async function ageMs(path: string): Promise<number> {
  const found = await stat(path).catch(() => undefined)
  return found ? Date.now() - found.mtimeMs : 0
}

function lockedBy(holder: ProcessIdentity | undefined, path: string, what: string): LockedError {
  const who = holder ? `process ${holder.pid} on ${holder.host}` : 'another process'
  return new LockedError(`${what}: ${who} is working on it in this store (${path}).`, {
    pid: holder?.pid ?? 0,
    host: holder?.host ?? hostname(),
    hint: 'Wait for it, cancel it, or use another store.',
  })
}
