import { existsSync, readdirSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { openIndexedDataset } from '../formats/indexed-dataset.ts'
import type { ParsedFlags } from './argparse.ts'
import { faultAt, type Tool } from './tool.ts'

/**
 * What Megatron raises for data that it cannot open, if so.
 * Source: Megatron-LM core_r0.6.0, indexed_dataset.py:228, 368-370; ModelLink 1.1, mtf_dataset.py:46-80.
 */
export function wrongData(tool: Tool, flags: ParsedFlags): string | undefined {
  for (const name of ['data-path', 'train-data-path', 'valid-data-path']) {
    for (const prefix of flags.get(name) ?? []) {
      const wrong = flags.has('is-instruction-dataset') || flags.has('stage') ? wrongRows(prefix) : wrongText(prefix)
      if (wrong !== undefined) return wrong
      if (faultAt(tool, 'bad-data-index')) return `AssertionError: bad header, cannot read: ${prefix}.idx`
    }
  }
  return undefined
}

function wrongText(prefix: string): string | undefined {
  if (!existsSync(`${prefix}.idx`) || !existsSync(`${prefix}.bin`))
    return `AssertionError: One or both of the .idx and .bin files cannot be found at the path prefix ${prefix}`
  return wrongIndex(prefix)
}

function wrongRows(prefix: string): string | undefined {
  const start = `${basename(prefix)}_packed_`
  const names = existsSync(dirname(prefix)) ? readdirSync(dirname(prefix)) : []
  const sets = names.filter(name => name.startsWith(start) && name.endsWith('_document.idx'))
  if (sets.length === 0) return 'IndexError: list index out of range'
  return sets.map(name => wrongIndex(`${dirname(prefix)}/${name.slice(0, -4)}`)).find(Boolean)
}

function wrongIndex(prefix: string): string | undefined {
  try {
    openIndexedDataset(prefix).close()
    return undefined
  } catch {
    return `AssertionError: bad header, cannot read: ${prefix}.idx`
  }
}
