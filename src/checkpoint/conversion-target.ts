import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { InputError } from '../errors.ts'
import { type ConversionPlan, manifestName, planDifferences, readManifest } from './manifest.ts'
import { iterationFolder, trackerPath } from './megatron-folder.ts'
import { trainerStateName } from './trainer-state.ts'

/**
 * Refuses to convert into a folder that holds what the conversion did not make: files that are no part of a Megatron
 * checkpoint, a later iteration (the tracker would go back), or the same iteration made under another plan or with
 * other files in it. What the same plan made is replaced. Files whose names begin with a dot do not count.
 *
 * @throws InputError naming what differs and what to do; FormatError for a damaged manifest.
 */
export async function checkConversionTarget(
  dir: string,
  { iteration, plan }: { iteration: number; plan: ConversionPlan },
): Promise<void> {
  const names = await visibleNames(dir)
  const foreign = names.filter(
    name => name !== basename(trackerPath(dir)) && name !== 'release' && !/^iter_\d{7,}$/.test(name),
  )
  if (foreign.length > 0)
    throw new InputError(`${dir} holds ${listed(foreign)}, which no Megatron checkpoint has.`, { hint: elsewhere })
  const later = names.find(name => /^iter_\d{7,}$/.test(name) && Number(name.slice(5)) > iteration)
  if (later !== undefined)
    throw new InputError(`${dir} holds ${later}, which is later than iteration ${iteration}.`, { hint: elsewhere })
  const own = join(dir, iterationFolder(iteration))
  const files = (await filesBelow(own)).sort()
  if (files.length === 0) return
  const manifest = await readManifest(own)
  if (manifest === undefined)
    throw new InputError(`${own} holds ${listed(files)} and no ${manifestName}: no conversion finished it.`, {
      hint: elsewhere,
    })
  const differences = planDifferences(manifest.plan, plan)
  if (differences.length > 0)
    throw new InputError(`${own} was made under another plan (${listed(differences)}).`, { hint: elsewhere })
  const known = new Set([manifestName, trainerStateName, ...manifest.files.map(({ file }) => file)])
  const extra = files.filter(file => !known.has(file))
  if (extra.length > 0)
    throw new InputError(`${own} holds ${listed(extra)}, which the conversion did not make.`, { hint: elsewhere })
}

const elsewhere = 'Convert into a new folder, or move this one away first.'

/** Paths of the files below `dir`, with `/`, hidden ones left out; empty when there is no such folder. */
export async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true, recursive: true }).catch(error => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  })
  return entries
    .filter(entry => !entry.isDirectory() && !entry.name.startsWith('.'))
    .map(entry => join(entry.parentPath, entry.name).slice(join(dir, '/').length).replaceAll('\\', '/'))
}

async function visibleNames(dir: string): Promise<readonly string[]> {
  const names = await readdir(dir).catch(error => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  })
  return names.filter(name => !name.startsWith('.')).sort()
}

function listed(items: readonly string[]): string {
  return `${items.slice(0, 3).join(', ')}${items.length > 3 ? ` and ${items.length - 3} more` : ''}`
}
