import { existsSync, readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
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

/**
 * Writes the order of rows beside instruction data, as the real one does; where the folder is read-only it fails. Its
 * content, NumPy's of int64, is not shuffled. Source: ModelLink 1.1, decoder_packed_mtf_dataset.py:172-199.
 */
export async function writeRowOrder(flags: ParsedFlags): Promise<void> {
  const one = (name: string) => flags.get(name)?.[0]
  const prefix = one('data-path')
  if (prefix === undefined || !(flags.has('is-instruction-dataset') || flags.has('stage'))) return
  const rows = Number(one('train-iters')) * Number(one('global-batch-size') ?? one('micro-batch-size'))
  const header = `{'descr': '<i8', 'fortran_order': False, 'shape': (${rows},), }`.padEnd(117)
  const order = BigInt64Array.from({ length: rows }, (_, row) => BigInt(row))
  const file = `${prefix}_train_indexmap_${rows}ns_${one('seed') ?? 1234}s_decoder_packed_shuffle_idx.npy`
  await writeFile(file, [Buffer.from(`\x93NUMPY\x01\0v\0${header}\n`, 'latin1'), new Uint8Array(order.buffer)])
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
