import { join } from 'node:path'
import { LayoutError, UnsupportedError } from '../errors.ts'
import type { Launch, Word } from '../flow/launch.ts'
import { checkModelLayout } from '../layout/parallel-layout.ts'
import type { Architecture } from '../models/architecture.ts'
import { splitFlags } from './flag-words.ts'
import { type Generation, generationFacts } from './generations.ts'
import { acceptedFlags, type ParserName } from './parsers.ts'

/** A checkout of the toolchain, as the machines that run its commands see it. */
export interface Toolchain {
  readonly generation: Generation
  /** Root of the checkout, where `pretrain_gpt.py` is. */
  readonly dir: string
}

/** One command of the toolchain: a launch, with what has to be known to check and to print it. */
export interface ToolchainCommand extends Launch {
  /** The folder to run it in: packages and configuration are looked up from there. */
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
