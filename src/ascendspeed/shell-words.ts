import { InputError } from '../errors.ts'
import { quoteWord, type Word } from '../flow/launch.ts'
import { wordText } from './flag-words.ts'

/** A command line as a script has it. */
export interface ShellCommand {
  /** Variables that the words use, with their quoted values, in the order of their first use. */
  readonly variables: readonly (readonly [name: string, value: string])[]
  readonly words: readonly ShellWord[]
}

/** One word of a command line in a script. */
export interface ShellWord {
  readonly text: string
  /** True for flags, and for the program that torchrun starts. */
  readonly startsLine: boolean
}

const nodeVariables = { rank: 'NODE_RANK', count: 'NNODES', masterAddr: 'MASTER_ADDR', masterPort: 'MASTER_PORT' }

/** The variables of the vendor's guide (and of ModelLink's scripts, for what the guide has none) by flag. */
const flagVariables: Readonly<Record<string, string>> = {
  '--nproc_per_node': 'GPUS_PER_NODE',
  '--tensor-model-parallel-size': 'TP',
  '--pipeline-model-parallel-size': 'PP',
  '--target-tensor-parallel-size': 'TP',
  '--target-pipeline-parallel-size': 'PP',
  '--micro-batch-size': 'MBS',
  '--global-batch-size': 'GBS',
  '--lr': 'LR',
  '--min-lr': 'MIN_LR',
  '--seq-length': 'SEQ_LEN',
  '--max-position-embeddings': 'MAX_PE',
  '--train-iters': 'TRAIN_ITERS',
  '--seed': 'SEED',
  '--input': 'ORIGINAL_TRAIN_DATA_PATH',
  '--output-prefix': 'PROCESSED_DATA_PREFIX',
  '--handler-name': 'DATA_TYPE',
  '--tokenizer-type': 'TOKENIZER_TYPE',
  '--tokenizer-name-or-path': 'TOKENIZER_PATH',
  '--tokenizer-model': 'TOKENIZER_PATH',
  '--data-path': 'DATA_PATH',
  '--load': 'CONVERT_MODEL_PATH',
  '--save': 'MODEL_SAVE_PATH',
  '--lora-load': 'LORA_CHECKPOINT',
}

/** A conversion's folders: only from Hugging Face does it name a tokenizer. */
const conversionVariables = (fromHf: boolean): Readonly<Record<string, string>> =>
  fromHf
    ? { '--load-dir': 'ORIGINAL_HF_WEIGHT', '--save-dir': 'CONVERT_MODEL_PATH' }
    : { '--load-dir': 'MODEL_SAVE_PATH', '--save-dir': 'ORIGINAL_HF_WEIGHT' }

/** The guide's variable for each flag of a command line. */
export function variableNames(argv: readonly Word[]): Readonly<Record<string, string>> {
  return { ...flagVariables, ...conversionVariables(argv.includes('--tokenizer-model')) }
}

/** A command line with the guide's variables in place of the values that they name. */
export function shellCommand(argv: readonly Word[]): ShellCommand {
  const names = variableNames(argv)
  const variables = new Map<string, string>()
  const program =
    argv[0] === 'torchrun' ? argv.findIndex((_, i) => i > 1 && !isFlag(argv[i]) && !isFlag(argv[i - 1])) : -1
  const words = argv.map((word, i): ShellWord => {
    const startsLine = isFlag(word) || i === program
    if (typeof word === 'object' && 'node' in word) return { text: `"$${nodeVariables[word.node]}"`, startsLine }
    const plain = quote(wordText(word))
    const text = i === 0 && notAlone.test(plain) ? `'${plain}'` : plain
    const before = argv[i - 1]
    const name = !isFlag(word) && typeof before === 'string' ? names[before] : undefined
    if (name === undefined || (variables.get(name) ?? text) !== text) return { text, startsLine }
    variables.set(name, text)
    return { text: `"$${name}"`, startsLine }
  })
  return { variables: [...variables], words }
}

/** A word as bash reads it back unchanged. @throws InputError for one with a NUL, which no program can be given. */
export function quote(word: string): string {
  if (word.includes('\0')) throw new InputError(`'${word.replaceAll('\0', '\\0')}': no program can be given a NUL.`)
  return quoteWord(word)
}

/** What bash, at the start of a command, takes for an assignment or a word of its own; quoted it is a program's name. */
const notAlone = /^[^']*=|^(case|coproc|do|done|elif|else|esac|fi|for|function|if|in|select|then|time|until|while)$/

const isFlag = (word: Word | undefined) => typeof word === 'string' && /^--./.test(word)
