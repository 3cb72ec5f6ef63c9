import { join, resolve } from 'node:path'
import { z } from 'zod'
import { InputError, LayoutError, UnsupportedError } from '../errors.ts'
import type { Launch, Word } from '../flow/launch.ts'
import { checkModelLayout } from '../layout/parallel-layout.ts'
import type { Architecture } from '../models/architecture.ts'
import { splitFlags } from './flag-words.ts'
import { detectGeneration, type Generation, generationFacts, generations } from './generations.ts'
import { acceptedFlags, type ParserName } from './parsers.ts'

/** A checkout of the toolchain, as the machines that run its commands see it. */
export interface Toolchain {
  readonly generation: Generation
  /** Root of the checkout, where `pretrain_gpt.py` is. */
  readonly dir: string
  /** Do it with the vendor's packaged scripts; default: the toolchain's own programs. */
  readonly scripts?: ToolchainScripts | undefined
}

/** Which of the AscendCloud package's scripts to start. */
export interface ToolchainScripts {
  /** As in the guide's table: `llama2-13b`. */
  readonly model: string
  /** The model's folder below `scripts/`; default its name up to the size. */
  readonly folder?: string | undefined
  /** Run `scripts/install.sh` first; default true. */
  readonly install?: boolean | undefined
}

/** Schema of the record, for steps that take one. */
export const Toolchain: z.ZodType<Toolchain, Toolchain> = z.strictObject({
  generation: z.enum(generations),
  dir: z.string().min(1),
  scripts: z
    .strictObject({ model: z.string(), folder: z.string().optional(), install: z.boolean().optional() })
    .optional(),
})

/**
 * Names a checkout of AscendSpeed, ModelLink or MindSpeed-LLM for steps to work with. Without a `generation` it is
 * told by the files in `dir`, which then has to be on this machine too. With `scripts`, `dir` is the package's
 * `llm_train/AscendSpeed`, and the generation that of the ModelLink that its `install.sh` puts there.
 * @throws InputError, UnsupportedError as `detectGeneration` does.
 */
export function ascendSpeed(options: {
  readonly dir: string
  readonly generation?: Generation | undefined
  readonly scripts?: ToolchainScripts | undefined
}): Toolchain {
  if (options.dir.trim() === '') throw new InputError("The toolchain's folder is empty.")
  const dir = resolve(options.dir)
  const { scripts } = options
  const generation = options.generation ?? detectGeneration(scripts ? join(dir, 'ModelLink') : dir)
  return { generation, dir, ...(scripts ? { scripts } : {}) }
}

/** One command of the toolchain: a launch, with what has to be known to check and to print it. */
export interface ToolchainCommand extends Launch {
  /** The checkout: packages and configuration are looked up from there. */
  readonly dir: string
  readonly generation: Generation
  /** Whose flags it may carry. */
  readonly parsers: readonly ParserName[]
}

/** A command on one machine, of `python` and one of the generation's entry points. */
export function pythonCommand(
  { generation, dir }: Toolchain,
  entry: 'preprocess' | 'convert',
  { parsers, args }: { readonly parsers: readonly ParserName[]; readonly args: readonly Word[] },
): ToolchainCommand {
  const script = { read: join(dir, generationFacts[generation][entry]) }
  refuseUnknownFlags(generation, { parsers, args })
  return { dir, generation, parsers, argv: ['python', script, ...args], env: {}, nodes: 1, devicesPerNode: 0 }
}

/** @throws UnsupportedError for the first flag that the generation's parsers do not know. */
export function refuseUnknownFlags(
  generation: Generation,
  { parsers, args }: { readonly parsers: readonly ParserName[]; readonly args: readonly Word[] },
): void {
  const accepted = acceptedFlags(generation, parsers)
  const unknown = splitFlags(args).find(({ flag }) => !accepted.has(flag))
  if (unknown) throw new UnsupportedError(`${generationFacts[generation].title} knows no ${unknown.flag} here.`)
}

/** How a model is cut; the names are those of `hfToMegatron`. */
export interface ToolchainParallel {
  readonly tp: number
  readonly pp: number
  readonly layersPerStage?: readonly number[] | undefined
  readonly layersPerVirtualStage?: number | undefined
}

/** Flags that say which layers a pipeline stage holds, where that is not one equal share. */
export function stageWords({ layersPerStage, layersPerVirtualStage }: ToolchainParallel): readonly Word[] {
  return [
    ...(layersPerStage === undefined ? [] : ['--num-layer-list', layersPerStage.join(',')]),
    ...(layersPerVirtualStage === undefined ? [] : ['--num-layers-per-virtual-pipeline-stage', layersPerVirtualStage]),
  ]
}

/**
 * Checks a layout as the toolchain would, which stores no query group twice.
 * @throws LayoutError.
 */
export function checkToolchainLayout(architecture: Architecture, parallel: ToolchainParallel): void {
  const { numQueryGroups } = architecture
  const { tp } = parallel
  if (numQueryGroups % tp !== 0)
    throw new LayoutError(
      `tp ${tp} does not divide the model's ${numQueryGroups} query groups, as the toolchain needs.`,
      {
        hint: 'Use a tp that does, or the native steps, which store groups several times.',
      },
    )
  checkModelLayout(architecture, parallel)
}
