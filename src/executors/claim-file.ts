import { linkSync, rmSync, writeFileSync } from 'node:fs'
import { siblingTemp } from '../formats/atomic-file.ts'

/** Makes a file with `text` unless there is one: of all who try, exactly one gets `true`, and none sees half a file. */
export function claimFile(path: string, text: string): boolean {
  const temporary = siblingTemp(path)
  writeFileSync(temporary, text)
  try {
    linkSync(temporary, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    rmSync(temporary)
  }
}
