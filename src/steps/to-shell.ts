import { join } from 'node:path'
import { hfToMegatronCommand, megatronToHfCommand } from '../ascendspeed/conversion-arguments.ts'
import { withExtraArgs } from '../ascendspeed/extra-arguments.ts'
import { preprocessCommand } from '../ascendspeed/preprocess-arguments.ts'
import { type ShellScript, type ShellWork, shellScripts } from '../ascendspeed/shell-scripts.ts'
import { hfToMegatronOf, megatronToHfOf, preprocessingOf, trainingOfStep } from '../ascendspeed/step-inputs.ts'
import type { Toolchain } from '../ascendspeed/toolchain.ts'
import { trainCommand } from '../ascendspeed/training-arguments.ts'
import { handlerNamed } from '../data/handlers/registry.ts'
import { type PlanOptions, surveyOptions } from '../engine/plan.ts'
import { parseInput, survey, type Work } from '../engine/survey.ts'
import { PlanError } from '../errors.ts'
import { bodyOf } from '../flow/call.ts'
import type { Target } from '../flow/ref.ts'
import { readArchitecture } from '../models/config.ts'
import type { HfModel, MegatronCheckpoint, MegatronDataset } from './artifacts.ts'
import type { PreprocessInput } from './preprocess-input.ts'
import type { ToolchainFields } from './toolchain/toolchain-fields.ts'
import type { TrainInput } from './train-input.ts'
import { iterationsOf, scheduleOf } from './train-layout.ts'

export interface ToShellOptions extends Pick<PlanOptions, 'store'> {
  /** The checkout that the scripts call, but for calls that name their own; see `ascendSpeed`. */
  readonly toolchain: Toolchain
  /** Folder for what the scripts write: `data`, `weights`, `checkpoint`, `hf`, each below the name of its call. */
  readonly folder: string
  /** Folder with the tokenizer's files, for trainings on data that no `preprocess` of the target makes. */
  readonly tokenizer?: string
}

/** What a script leaves behind, and how it is made. */
interface Exported {
  readonly output: unknown
  readonly work: ShellWork
}

/**
 * The same work as `target` as readable shell scripts of the toolchain, in the style of the vendor's guide: to check us
 * against what is known, or to leave. Nothing is run; records in the store are used for what they tell (how many rows a
 * dataset has), while the scripts do all of the work themselves. Give each script's text to a file of its name.
 *
 * The four steps can be exported, and jobs of one's own as their commands.
 * @throws PlanError for other steps, and for a training whose iterations are not known; UnsupportedError naming what the
 * toolchain cannot do; LayoutError.
 */
export async function toShell(target: Target, options: ToShellOptions): Promise<readonly ShellScript[]> {
  const found = await survey(target, surveyOptions(options))
  const outputs = new Map<Work, unknown>()
  const works: ShellWork[] = []
  const known: Known = { tokenizers: new Map(), adapters: new Map() }
  for (const work of found.work) {
    const input = parseInput(work.call, other => outputs.get(found.workOf(other)))
    const { output, work: script } = await exported(work, {
      ...{ ...options, input, known, dir: join(options.folder, work.call.name) },
    })
    outputs.set(work, output)
    works.push(script)
  }
  return shellScripts(works)
}

/** What artifacts do not tell, by their paths. */
interface Known {
  readonly tokenizers: Map<string, string>
  readonly adapters: Map<string, NonNullable<TrainInput['lora']>>
}

interface ExportOptions extends ToShellOptions {
  readonly input: unknown
  readonly known: Known
  readonly dir: string
}

async function exported({ call, record, places }: Work, options: ExportOptions): Promise<Exported> {
  const { input, dir, known } = options
  const { toolchain = options.toolchain, extraArgs = [] } = input as ToolchainFields
  const { name } = call
  switch (call.step.spec.name) {
    case 'preprocess': {
      const prefix = join(dir, 'data')
      const given = input as PreprocessInput
      const launch = withExtraArgs(preprocessCommand(toolchain, preprocessingOf(given, prefix)), extraArgs)
      const output = datasetOf(given, { prefix, record: record?.output })
      known.tokenizers.set(output.path, given.tokenizer.path)
      return { output, work: { name, launch, before: [folder(dir)] } }
    }
    case 'hfToMegatron': {
      const given = input as Parameters<typeof hfToMegatronOf>[0] & { readonly model: HfModel }
      const architecture = await readArchitecture(given.model.path)
      const save = join(dir, 'weights')
      const command = hfToMegatronCommand(toolchain, hfToMegatronOf(given, { architecture, save }))
      const launch = withExtraArgs(command, extraArgs)
      const { parallel, layout } = given
      const output = { kind: 'megatron-checkpoint', path: save, iteration: 1, ...parallel, layout, architecture }
      return { output, work: { name, launch } }
    }
    case 'train': {
      const given = input as TrainInput
      const { data, init, lora } = given
      const trainIters = data.samples > 0 || given.trainIters ? iterationsOf(given) : undefined
      if (trainIters === undefined)
        throw new PlanError(`${name}: its iterations are known when its data is.`, {
          hint: 'Run preprocess first, which needs no NPU, or give trainIters.',
        })
      const save = join(dir, 'checkpoint')
      const { saveInterval } = scheduleOf(given, trainIters)
      const tokenizer = given.tokenizer?.path ?? known.tokenizers.get(data.path) ?? options.tokenizer
      if (tokenizer === undefined)
        throw new PlanError(`${name}: its data is not made here, so that its tokenizer is not known; name it.`)
      if (lora) known.adapters.set(save, lora)
      const training = trainingOfStep(given, {
        tokenizer,
        save,
        trainIters,
        saveInterval,
        dataCache: join(dir, 'cache'),
      })
      const { architecture, layout } = init
      const { tp = init.tp, pp = init.pp } = given.parallel ?? {}
      const output = {
        ...{ kind: 'megatron-checkpoint', path: save, iteration: trainIters, tp, pp, layout, architecture },
        ...(lora ? { loraBase: init } : {}),
      }
      return {
        output,
        work: { name, launch: withExtraArgs(trainCommand(toolchain, training), extraArgs), before: [folder(dir)] },
      }
    }
    case 'megatronToHf': {
      const { checkpoint, like, dtype } = input as { checkpoint: MegatronCheckpoint; like: HfModel; dtype?: 'bf16' }
      const save = join(dir, 'hf')
      const { output: path, ...command } = megatronToHfCommand(
        toolchain,
        megatronToHfOf({ checkpoint, dtype }, { save, lora: known.adapters.get(checkpoint.path) }),
      )
      // The toolchain writes into the folder of the model that it is to be like.
      const before = [folder(dir), ['cp', '-r', { read: like.path }, { write: save }]]
      return { output: { kind: 'hf-model', path }, work: { name, launch: withExtraArgs(command, extraArgs), before } }
    }
  }
  const body = bodyOf(call)
  if (body.kind !== 'job')
    throw new PlanError(`${name}: '${call.step.spec.name}' is a function in this process, which no script can call.`, {
      hint: 'Only the four steps and jobs can be exported.',
    })
  if (!record) throw new PlanError(`${name}: what it leaves behind is not known before it has run.`)
  return { output: record.output, work: { name, launch: await body.launch(input as Record<string, unknown>, places) } }
}

const folder = (path: string) => ['mkdir', '-p', { write: path }]

/** The dataset that the script will write, with the counts of the recorded one: 0 where there is none. */
function datasetOf(
  { handler, jsonKeys, corpus }: PreprocessInput,
  { prefix, record }: { prefix: string; record: unknown },
): MegatronDataset {
  const { samples = 0, tokens = 0, vocabSize = 0 } = (record ?? {}) as Partial<MegatronDataset>
  const instruction = handlerNamed(handler).infix === '_packed'
  const [key] = jsonKeys ?? [Array.isArray(corpus) ? 'text' : corpus.textKey]
  const path = instruction ? prefix : `${prefix}_${handler === 'AlpacaPretrainHandler' ? 'text' : key}_document`
  return { kind: 'megatron-dataset', path, instruction, samples, tokens, vocabSize }
}
