import { execFile } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { freemem } from 'node:os'
import { promisify } from 'node:util'

const call = promisify(execFile)

/**
 * Lets what is measured next begin with the files that it reads in the page cache, nothing to be written back, and memory
 * that has just been used: a virtual machine gives free memory back to its host, and fetching it again can take longer
 * than the work. Uses `bytes`, at most six tenths of what is free, through a file in memory, where there is a folder for
 * such files.
 */
export async function settle(reads: readonly string[], bytes = Number.POSITIVE_INFINITY): Promise<void> {
  await call('sync')
  for (const path of reads) await call('dd', [`if=${path}`, 'of=/dev/null', 'bs=4M'])
  const file = '/dev/shm/ascendflow-bench'
  const count = Math.floor(Math.min(bytes, freemem() * 0.6) / 2 ** 22)
  await call('dd', ['if=/dev/zero', `of=${file}`, 'bs=4M', `count=${count}`]).catch(() => {})
  await rm(file, { force: true })
}
