import { constants } from 'node:fs'
import { access, copyFile, link, mkdir, readdir, readFile, realpath, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { megatronToHfCommand } from '../../ascendspeed/conversion-arguments.ts'
import { generationFacts } from '../../ascendspeed/generations.ts'
import { megatronToHfOf } from '../../ascendspeed/step-inputs.ts'
import type { Toolchain } from '../../ascendspeed/toolchain.ts'
import { watchTool } from '../../ascendspeed/watch-training.ts'
import { openHfModel } from '../../checkpoint/open-hf-model.ts'
import { openMegatronShards } from '../../checkpoint/open-megatron.ts'
import { companionFiles } from '../../checkpoint/write-hf-model.ts'
import { artifactFiles } from '../../engine/artifact-files.ts'
import { UnsupportedError } from '../../errors.ts'
import type { EndedJob, Known, StepContext } from '../../flow/call.ts'
import type { WatchFacts } from '../../flow/job-watch.ts'
import type { Launch } from '../../flow/launch.ts'
import { readArchitecture } from '../../models/config.ts'
import { loraTargets } from '../../models/lora-rules.ts'
import type { HfModel } from '../artifacts.ts'
import type { MegatronToHfInput } from '../megatron-to-hf-input.ts'
import { proved, unproved } from './evidence.ts'
import { refuseOtherIteration } from './loaded-iteration.ts'
import { toolchainFacts, toolchainLaunch } from './toolchain-fields.ts'

type Input = MegatronToHfInput & { readonly toolchain: Toolchain }
type Place = Pick<StepContext, 'workDir'>

/** The copy of the original model that the converter opens and writes into. */
const originalFolder = ({ workDir }: Place) => join(workDir, 'original')
const hfFolder = ({ workDir }: Place) => join(workDir, 'hf')

/** `megatronToHf` as a job of the toolchain. */
export const toHfJob = {
  launch: async (input: Input, place: Place): Promise<Launch> => {
    const { checkpoint, toolchain } = input
    const { iteration, architecture, loraBase } = checkpoint
    for (const loaded of [checkpoint, ...(loraBase ? [loraBase] : [])]) await refuseOtherIteration(loaded)
    // The artifact tells neither the type of the weights nor the rank of adapters; the shards do.
    const shards = await openMegatronShards(checkpoint.path, { iteration, architecture })
    await shards.close()
    const dtype = shards.weights[0]?.shards[0]?.tensor.dtype === 'F16' ? 'fp16' : 'bf16'
    const conversion = megatronToHfOf({ checkpoint, dtype }, { save: originalFolder(place), lora: shards.lora })
    return toolchainLaunch(megatronToHfCommand(toolchain, conversion), input)
  },

  prepare: async ({ like }: Input, place: Place): Promise<void> => {
    for (const folder of [hfFolder(place), originalFolder(place)]) await rm(folder, { recursive: true, force: true })
    for (const { path, name } of await artifactFiles(like.path)) await share(path, join(originalFolder(place), name))
  },

  watch: (_: Input, facts: WatchFacts) => watchTool(facts),
  collect: async ({ like, toolchain }: Input, context: StepContext & EndedJob): Promise<HfModel> => {
    const path = hfFolder(context)
    // Already there when collecting was interrupted after the move.
    if (!(await isThere(path))) await takeExport(context, { like: like.path, toolchain })
    await rm(originalFolder(context), { recursive: true, force: true })
    return { kind: 'hf-model', path }
  },
}

/** @throws UnsupportedError, LayoutError, InputError naming what the toolchain cannot do, or would do wrong. */
export async function checkToHf(known: Known<MegatronToHfInput>): Promise<readonly string[]> {
  const { checkpoint, like, dtype } = known
  const { tp, pp, layout } = checkpoint ?? {}
  const architecture = like?.path ? await readArchitecture(like.path) : undefined
  const stored = known.toolchain && dtype && like?.path ? await storedTypeOf(like.path) : dtype
  if (known.toolchain && stored !== dtype)
    throw new UnsupportedError(`the toolchain stores what ${like?.path} names, ${stored}, and no ${dtype}.`, {
      hint: 'Leave dtype out, or the toolchain: the native export stores either.',
    })
  return toolchainFacts(known, toolchain => {
    if (!tp || !pp || !layout || !architecture) return undefined
    const { layersPerStage, layersPerVirtualStage, loraBase } = checkpoint ?? {}
    const parallel = { tp, pp, layersPerStage, layersPerVirtualStage }
    // Whether adapters can be merged does not depend on their rank.
    const lora = loraBase ? { path: '/', r: 1, alpha: 1, targets: loraTargets } : undefined
    return megatronToHfCommand(toolchain, { architecture, layout, parallel, load: '/', save: '/', lora })
  })
}

/** The type in a model's `config.json`, which transformers stores it as. */
async function storedTypeOf(model: string): Promise<string | undefined> {
  const config = JSON.parse(await readFile(join(model, 'config.json'), 'utf8')) as Record<string, unknown>
  const names: Readonly<Record<string, string>> = { bfloat16: 'bf16', float16: 'fp16', float32: 'fp32' }
  return names[String(config.torch_dtype ?? config.dtype)]
}

/** Checks what the converter wrote, gives it the tokenizer's files, and moves it where it belongs. */
async function takeExport(
  context: StepContext & EndedJob,
  { like, toolchain }: { like: string; toolchain: Toolchain },
): Promise<void> {
  const { exportFolder } = generationFacts[toolchain.generation]
  // Which of the two a checkout writes changed within one generation.
  const names = [exportFolder, 'mg2hf', 'mg2hg'].map(name => join(originalFolder(context), name))
  const there = await Promise.all(names.map(isThere))
  const exported = names.find((_, i) => there[i])
  if (exported === undefined)
    throw unproved(context, { what: `there is no ${names[0]}, where it was to write the model`, retryable: true })
  const made = await proved(context, () => openHfModel(exported))
  await made.close()
  const wanted = await readArchitecture(like)
  const differing = Object.entries(wanted).find(
    ([field, value]) => value !== (made.architecture as unknown as Record<string, unknown>)[field],
  )
  if (differing)
    throw unproved(context, {
      what: `${exported} has another ${differing[0]} than ${like}, which is ${String(differing[1])}`,
      retryable: false,
    })
  for (const name of await readdir(like))
    if (companionFiles.test(name) && !(await isThere(join(exported, name))))
      await copyFile(join(like, name), join(exported, name))
  await rename(exported, hfFolder(context))
}

/** Weights are linked where that is possible, since the converter only reads them; the rest is copied. */
async function share(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  const original = await realpath(from)
  if (/\.(safetensors|bin)$/.test(from)) {
    const linked = await link(original, to).then(
      () => true,
      () => false,
    )
    if (linked) return
  }
  await copyFile(original, to, constants.COPYFILE_FICLONE)
}

const isThere = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )
