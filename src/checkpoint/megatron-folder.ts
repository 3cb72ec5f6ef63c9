import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { FormatError, InputError, UnsupportedError } from '../errors.ts'

/** Which checkpoint of a folder: an iteration, or the one without a number that Megatron calls `release`. */
export type CheckpointIteration = number | 'release'

/** Root folder inside every file, from the file's name. */
export const shardRoot = 'model_optim_rng'
const trackerName = 'latest_checkpointed_iteration.txt'

/** Name of the folder of one iteration: `iter_0000001`, or `release`. */
export function iterationFolder(iteration: CheckpointIteration): string {
  return iteration === 'release' ? 'release' : `iter_${String(iteration).padStart(7, '0')}`
}

/** Path of a rank's file below the iteration's folder. Source: Megatron-LM core_r0.6.0, checkpointing.py:81-120. */
export function shardPath(rank: { tp: number; stage: number }, pp: number): string {
  const name = `mp_rank_${String(rank.tp).padStart(2, '0')}`
  return join(pp === 1 ? name : `${name}_${String(rank.stage).padStart(3, '0')}`, `${shardRoot}.pt`)
}

/** Path of the file that names the newest complete iteration. */
export function trackerPath(dir: string): string {
  return join(dir, trackerName)
}

/**
 * The iteration that the tracker file of a checkpoint folder names.
 * @throws FormatError when there is no tracker file, or when it holds neither a number nor `release`.
 */
export async function readTracker(dir: string): Promise<CheckpointIteration> {
  const file = trackerPath(dir)
  const found = await stat(file).catch(cause => {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
    throw new FormatError({ file, expected: 'a checkpoint folder with a tracker file', found: 'no such file', cause })
  })
  if (!found.isFile() || found.size > 1000) {
    const what = found.isFile() ? `${found.size} bytes` : 'a folder or device'
    throw new FormatError({ file, expected: "an iteration number or 'release'", found: what })
  }
  const word = (await readFile(file, 'latin1')).trim()
  if (word === 'release') return 'release'
  if (!/^\d{1,9}$/.test(word)) {
    throw new FormatError({
      file,
      offset: 0,
      expected: "an iteration number or 'release'",
      found: JSON.stringify(word.slice(0, 40)),
    })
  }
  return Number(word)
}

/** The files of an iteration by rank: `files[stage][tpRank]`; every rank is there, and no file more. */
export async function listShards(dir: string, iteration: CheckpointIteration): Promise<readonly (readonly string[])[]> {
  if (iteration !== 'release' && (!Number.isSafeInteger(iteration) || iteration < 0)) {
    throw new InputError(`iteration is ${iteration}; it must be a whole number from 0, or 'release'.`)
  }
  const folder = join(dir, iterationFolder(iteration))
  const names = await readdir(folder).catch(cause => {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
    throw new FormatError({ file: folder, expected: 'a folder with mp_rank_* folders', found: 'no such folder', cause })
  })
  const ranks = names.filter(name => name.startsWith('mp_rank_')).map(name => parseRank(folder, name))
  const tp = 1 + Math.max(-1, ...ranks.map(rank => rank.tp))
  const pp = 1 + Math.max(-1, ...ranks.map(rank => rank.stage))
  if (ranks.length === 0) throw new FormatError({ file: folder, expected: 'mp_rank_* folders', found: 'none' })
  const files: string[][] = []
  for (let stage = 0; stage < pp; stage++) {
    files.push(
      Array.from({ length: tp }, (_, rank) => {
        const path = shardPath({ tp: rank, stage }, pp)
        const isThere = ranks.some(it => it.tp === rank && it.stage === stage && path.startsWith(`${it.name}/`))
        if (!isThere) {
          throw new FormatError({
            file: join(folder, path),
            expected: `a file for each of tp ${tp} x pp ${pp} ranks`,
            found: 'none',
          })
        }
        return join(folder, path)
      }),
    )
  }
  if (ranks.length !== tp * pp) {
    throw new FormatError({
      file: folder,
      expected: `${tp * pp} mp_rank_* folders (tp ${tp} x pp ${pp})`,
      found: `${ranks.length}`,
    })
  }
  return files
}

function parseRank(folder: string, name: string): { name: string; tp: number; stage: number } {
  const match = /^mp_rank_(\d{2,4})(?:_(\d{3,4}))?(_\d{3,4})?$/.exec(name)
  if (match === null)
    throw new FormatError({ file: join(folder, name), expected: 'a name like mp_rank_00_000', found: name })
  if (match[3] !== undefined) {
    throw new UnsupportedError(`${join(folder, name)}: expert-parallel checkpoints are not supported, dense ones are.`)
  }
  return { name, tp: Number(match[1]), stage: Number(match[2] ?? 0) }
}
