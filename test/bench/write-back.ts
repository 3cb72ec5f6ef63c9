import { readFileSync, writeFileSync } from 'node:fs'

const setting = (name: string): string => `/proc/sys/vm/${name}`

/**
 * Lets Linux keep up to 70 % of memory unwritten before it writes back, and gives what puts the settings back. For work
 * that is not flushed: writing back, which begins at 10 % and slows the writers down from 15 %, takes a processor of
 * its own and is what flushed work measures. Needs root.
 */
export function liftWriteBack(): () => void {
  const before = ['dirty_background', 'dirty'].map(name => {
    const bytes = readFileSync(setting(`${name}_bytes`), 'utf8').trim()
    if (bytes !== '0') return [`${name}_bytes`, bytes] as const
    return [`${name}_ratio`, readFileSync(setting(`${name}_ratio`), 'utf8').trim()] as const
  })
  const restore = (): void => {
    for (const [name, value] of before) writeFileSync(setting(name), value)
  }
  writeFileSync(setting('dirty_ratio'), '80')
  writeFileSync(setting('dirty_background_ratio'), '70')
  const end = (): never => process.exit(130)
  process.once('exit', restore)
  process.once('SIGINT', end)
  process.once('SIGTERM', end)
  return () => {
    restore()
    process.off('exit', restore)
    process.off('SIGINT', end)
    process.off('SIGTERM', end)
  }
}
