import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Finding } from './finding.ts'
import { manifestName } from './manifest.ts'
import { shardPath } from './megatron-folder.ts'
import { trainerStateName } from './trainer-state.ts'

/** Files beside the shards that training writes and no conversion reads. */
const companions: ReadonlySet<string> = new Set([manifestName, trainerStateName])
const rankCompanions: ReadonlySet<string> = new Set(['model_optim_rng.pt', 'distrib_optim.pt'])

/** The rank folders of an iteration, as far as they form one layout. */
export interface RankGrid {
  readonly tp: number
  readonly pp: number
  /** Paths of the shards that are there, by stage and tensor-parallel rank. */
  readonly shards: readonly { readonly tp: number; readonly stage: number; readonly path: string }[]
  /** Rank folders with a `distrib_optim.pt`. */
  readonly distributedOptimizers: number
  readonly findings: readonly Finding[]
}

/** Looks at the names in an iteration's folder: which layout they form, which ranks are missing, what is foreign. */
export async function readRankGrid(folder: string): Promise<RankGrid> {
  const findings: Finding[] = []
  const names = (await readdir(folder)).filter(name => !name.startsWith('.')).sort()
  const ranks = names.flatMap(name => {
    const match = /^mp_rank_(\d{2,4})(?:_(\d{3,4}))?$/.exec(name)
    return match ? [{ name, tp: Number(match[1]), stage: match[2] === undefined ? undefined : Number(match[2]) }] : []
  })
  for (const name of names) {
    if (ranks.some(rank => rank.name === name) || companions.has(name)) continue
    findings.push(foreign(folder, name, name.startsWith('mp_rank_') ? 'error' : 'warning'))
  }
  const staged = ranks.filter(rank => rank.stage !== undefined)
  const flat = ranks.filter(rank => rank.stage === undefined)
  if (staged.length > 0 && flat.length > 0) {
    findings.push({
      ...{ code: 'rank-foreign', severity: 'error', path: folder },
      expected: `rank folders of one layout, such as ${staged[0]!.name}`,
      found: `${staged.length} with a stage beside ${flat.length} without (${flat[0]!.name})`,
      advice: 'Two layouts are mixed here: convert again into a new folder.',
    })
  }
  const all = (staged.length > 0 ? staged : flat).map(rank => ({ ...rank, stage: rank.stage ?? 0 }))
  const tp = 1 + Math.max(-1, ...all.map(rank => rank.tp))
  const pp = 1 + Math.max(-1, ...all.map(rank => rank.stage))
  const shards: { tp: number; stage: number; path: string }[] = []
  let distributedOptimizers = 0
  // No more lines than folders: a single mp_rank_9999_9999 must not make a hundred million findings.
  let missing = 0
  for (let stage = 0; stage < pp && missing < 100; stage++) {
    for (let rank = 0; rank < tp && missing < 100; rank++) {
      const path = join(folder, shardPath({ tp: rank, stage }, pp))
      const dir = join(path, '..')
      const inside = await readdir(dir).catch(() => undefined)
      if (inside?.includes('model_optim_rng.pt')) shards.push({ tp: rank, stage, path })
      else {
        missing++
        findings.push({
          ...{ code: 'rank-missing', severity: 'error', path, tp: rank, stage },
          expected: `a file for each of tp ${tp} x pp ${pp} ranks`,
          found: inside === undefined ? 'no folder' : 'an empty folder',
          advice: 'Copy the rank from where it was written (each node saves its own), or convert again.',
        })
      }
      if (inside?.includes('distrib_optim.pt')) distributedOptimizers++
      for (const name of inside ?? []) {
        if (!rankCompanions.has(name) && !name.startsWith('.')) findings.push(foreign(dir, name, 'warning'))
      }
    }
  }
  return { tp, pp, shards, distributedOptimizers, findings }
}

function foreign(folder: string, name: string, severity: Finding['severity']): Finding {
  const advice = 'Move it away if nothing of yours needs it.'
  return { code: 'foreign-file', severity, path: join(folder, name), found: name, advice }
}
