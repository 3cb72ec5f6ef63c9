import type { Launch } from '../flow/launch.ts'
import { splitFlags, wordText } from './flag-words.ts'
import { type PackagedScript, type PackagedVariables, packagedLaunch } from './packaged-scripts.ts'
import { variableNames } from './shell-words.ts'
import type { ToolchainCommand, ToolchainScripts } from './toolchain.ts'

/** Variables of ModelLink's own scripts, which the guide does not have. */
const beyondTheGuide = ['GPUS_PER_NODE', 'DATA_PATH', 'LORA_CHECKPOINT']

/**
 * The packaged script that does what a command of the toolchain does, with the command's values in the guide's variables.
 * What the guide has no variable for (weight decay, LoRA's rank, virtual stages, …) is as the script has it.
 */
export function packagedCommand(command: ToolchainCommand, scripts: ToolchainScripts): Launch {
  const { argv, dir, nodes, devicesPerNode } = command
  const { model, folder, install } = scripts
  const names = variableNames(argv)
  const flags = new Map(splitFlags(argv).map(({ flag, values }) => [flag, values[0]]))
  const given = [...flags].flatMap(([flag, value]) => {
    const name = names[flag]
    if (name === undefined || value === undefined || beyondTheGuide.includes(name)) return []
    return [[name, typeof value === 'number' || typeof value === 'object' ? value : numberOf(value)] as const]
  })
  const values = given.map(([name, value]) => [name, typeof value === 'object' ? wordText(value) : value] as const)
  const variables: PackagedVariables = {
    ...Object.fromEntries(values),
    ...{ MODEL_NAME: model, ...trainingVariables(command, flags) },
  }
  const script = scriptOf(command, flags)
  return packagedLaunch({ dir, model, folder, install, script, variables, nodes, devicesPerNode })
}

type Flags = ReadonlyMap<string, unknown>

function scriptOf({ parsers }: ToolchainCommand, flags: Flags): PackagedScript {
  if (parsers.includes('preprocess')) return { part: 'preprocess' }
  if (parsers.includes('train')) return { part: 'pipeline', run: runOf(flags) }
  return { part: 'convert', direction: flags.has('--tokenizer-model') ? 'hf2hg' : 'mg2hf' }
}

const runOf = (flags: Flags) =>
  flags.has('--lora-target-modules') ? 'lora' : flags.has('--is-instruction-dataset') ? 'sft' : 'pretrain'

/** The scripts name data by what preprocessing was given; `_text_document` they put behind it themselves. */
function trainingVariables({ parsers }: ToolchainCommand, flags: Flags): PackagedVariables {
  if (!parsers.includes('train')) return {}
  const path = (flag: string) => wordText(flags.get(flag) as Parameters<typeof wordText>[0])
  return {
    RUN_TYPE: runOf(flags),
    PROCESSED_DATA_PREFIX: path('--data-path').replace(/_text_document$/, ''),
    ORIGINAL_HF_WEIGHT: path('--tokenizer-name-or-path'),
  }
}

const numberOf = (word: string) => (/^[+-]?\d+(\.\d+)?$/.test(word) ? Number(word) : word)
