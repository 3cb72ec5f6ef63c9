import { InputError, UnsupportedError } from '../errors.ts'
import type { Word } from '../flow/launch.ts'
import { generationFacts } from './generations.ts'
import { pythonCommand, type Toolchain, type ToolchainCommand } from './toolchain.ts'

/** What `preprocess_data.py` can be asked for; absent means the script's own default. */
export interface ToolchainPreprocessing {
  /** One file, or a folder whose files it reads in the file system's order. */
  readonly input: string
  /** Folder with the tokenizer's files. */
  readonly tokenizer: string
  /** Where the files go, as a common start of their names; its folder must exist. */
  readonly outputPrefix: string
  /** Default `GeneralPretrainHandler`. */
  readonly handler?: string | undefined
  /** Columns to tokenise; of handlers for pretraining. */
  readonly jsonKeys?: readonly string[] | undefined
  /** Rows of this many tokens or more are dropped. */
  readonly seqLength?: number | undefined
  readonly appendEod?: boolean | undefined
  /** Template of the Alpaca and ShareGPT style handlers; not before RC3. */
  readonly promptType?: string | undefined
  /** Other names for the handler's columns; not before RC3. */
  readonly mapKeys?: object | undefined
  /** Default 4. */
  readonly workers?: number | undefined
}

/** Handlers that came with RC3; older scripts take an unknown name for `GeneralPretrainHandler`, without a word. */
const templateHandlers: readonly string[] = [
  'LlamaFactoryInstructionHandler',
  'AlpacaStyleInstructionHandler',
  'SharegptStyleInstructionHandler',
  'AlpacaStylePairwiseHandler',
  'SharegptStylePairwiseHandler',
]

/**
 * The command that tokenises a corpus.
 * Source: ModelLink 1.1, tools/preprocess_data.py:84-166; RC3, preprocess_data.py:88-228.
 * @throws InputError, UnsupportedError for what the generation would refuse, crash on, or silently do otherwise.
 */
export function preprocessCommand(toolchain: Toolchain, options: ToolchainPreprocessing): ToolchainCommand {
  const { input, tokenizer, outputPrefix, handler, jsonKeys, seqLength, appendEod, promptType, mapKeys } = options
  refuseOtherTemplates(toolchain, options)
  if (/[*?[\]{}]/.test(input) || input.includes(','))
    throw new InputError(`${input}: preprocess_data.py takes one file or folder, no pattern and no list.`)
  const args: readonly Word[] = [
    ...['--input', { read: input }],
    ...['--tokenizer-type', 'PretrainedFromHF', '--tokenizer-name-or-path', { read: tokenizer }],
    ...['--output-prefix', { write: outputPrefix }],
    ...(handler === undefined ? [] : ['--handler-name', handler]),
    ...(jsonKeys === undefined ? [] : ['--json-keys', ...jsonKeys]),
    ...(seqLength === undefined ? [] : ['--seq-length', seqLength]),
    ...(appendEod ? ['--append-eod'] : []),
    ...(promptType === undefined ? [] : ['--prompt-type', promptType]),
    ...(mapKeys === undefined ? [] : ['--map-keys', JSON.stringify(mapKeys)]),
    ...['--workers', options.workers ?? 4, '--log-interval', 1000],
  ]
  return pythonCommand(toolchain, 'preprocess', { parsers: ['preprocess'], args })
}

function refuseOtherTemplates({ generation }: Toolchain, options: ToolchainPreprocessing): void {
  const { handler = 'GeneralPretrainHandler', promptType, mapKeys } = options
  const { title } = generationFacts[generation]
  const templates = templateHandlers.includes(handler)
  if (generation === 'modellink-1.0' || generation === 'modellink-1.1') {
    const wanted = templates ? handler : promptType !== undefined ? 'promptType' : mapKeys ? 'mapKeys' : undefined
    if (wanted !== undefined) throw new UnsupportedError(`${title} knows no ${wanted}; ModelLink 1.0.RC3 does.`)
  }
  if (templates && promptType === undefined) throw new InputError(`${handler} needs a promptType; ${title} crashes.`)
  if (!templates && promptType !== undefined)
    throw new InputError(`promptType is for ${templateHandlers.join(', ')}; ${title} refuses it with ${handler}.`)
}
