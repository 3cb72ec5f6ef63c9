import { resolve } from 'node:path'
import { diagnose } from '../checkpoint/diagnose.ts'
import { openMegatronShards } from '../checkpoint/open-megatron.ts'
import { stageSizes } from '../checkpoint/stage-sizes.ts'
import { InputError } from '../errors.ts'
import { readArchitecture } from '../models/config.ts'
import type { HfModel, MegatronCheckpoint } from './artifacts.ts'
import { sizesOf } from './parallel-sizes.ts'

export interface MegatronCheckpointOptions {
  /** The model that the shards are of: its `config.json` says what they do not. */
  readonly like: HfModel
  /** Default: the newest complete one, whatever the tracker file names. */
  readonly iteration?: number | undefined
}

/**
 * A folder of Megatron shards that is there already, to be given to steps: what an interrupted training left, say.
 * `path` is taken from the working folder. Reads names and headers, no weights.
 * @throws InputError when no iteration is complete, and for adapters, whose base the shards do not name; FormatError.
 */
export async function megatronCheckpoint(
  path: string,
  { like, iteration: asked }: MegatronCheckpointOptions,
): Promise<MegatronCheckpoint> {
  const dir = resolve(path)
  const architecture = await readArchitecture(like.path)
  const iteration = asked ?? (await diagnose(dir, { architecture })).newestComplete
  if (iteration === undefined)
    throw new InputError(`${dir} holds no complete checkpoint.`, { hint: `diagnose('${dir}') says what is missing.` })
  const shards = await openMegatronShards(dir, { iteration, architecture })
  await shards.close()
  const { tp, pp, layout, stages, isComplete } = shards
  if (iteration === 'release') throw new InputError(`${dir} holds a release, which has no iteration.`)
  if (!isComplete) throw new InputError(`${dir} holds adapters, without the weights that they were trained on.`)
  const cut = sizesOf({ tp, pp, ...stageSizes(stages) })
  return { kind: 'megatron-checkpoint', path: dir, iteration, ...cut, layout, architecture }
}
