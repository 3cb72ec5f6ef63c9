import { InputError } from '../errors.ts'
import type { CorpusFiles } from './encode-corpora.ts'
import type { Handler, HandlerOptions } from './handlers/handler.ts'
import type { HandlerName } from './handlers/registry.ts'

/** One of several corpora. */
export interface WeightedFiles extends CorpusFiles {
  /** Share of the tokens, in proportion to the weights of the others. All corpora have one, or none has. */
  readonly weight?: number | undefined
}

export interface PreprocessOptions extends HandlerOptions {
  /** Files whose rows come one after another, in this order; or several corpora, each with its own columns. */
  readonly files: readonly string[] | readonly WeightedFiles[]
  /** A name, or a handler of one's own, which is run in this thread. */
  readonly handler: HandlerName | Handler
  /** Columns to tokenise, each into a dataset of its own. Default `['text']`. Instruction handlers have their own. */
  readonly jsonKeys?: readonly string[] | undefined
  /** Folder with the tokenizer's files. */
  readonly tokenizerDir: string
  /** Folder and start of the output files' names; the folder is made if need be. */
  readonly outputPrefix: string
  /** Longest sequence, see `overflow`. Default: no limit. */
  readonly seqLength?: number | undefined
  /**
   * `drop` (default) leaves out sequences of `seqLength` tokens or more, as ModelLink does; `truncate` and `split` cut
   * longer ones to `seqLength` tokens, or one less when they are packed.
   */
  readonly overflow?: 'drop' | 'truncate' | 'split' | undefined
  /** Put instruction samples together to samples of exactly `seqLength` tokens. Default false. */
  readonly pack?: boolean | undefined
  /** Whether each document ends with the tokenizer's eos. Default false. */
  readonly appendEod?: boolean | undefined
  /** Documents to set aside as datasets of their own: a share below 1, or their number. Default: none. */
  readonly validation?: number | undefined
  /** Chooses what is set aside. Default 1234. */
  readonly seed?: number | undefined
  /** Whether rows that cannot be read stop the work (default) or are counted and left out. */
  readonly onBadRow?: 'fail' | 'skip' | undefined
  /** Threads that encode; results do not depend on it. Default: up to 4 above 8 MB of input, otherwise 1. */
  readonly workers?: number | undefined
  /** Where to write the report, as JSON. Default: nowhere. */
  readonly reportFile?: string | undefined
  /** Identity of an input file's content, for the report. */
  readonly digestOf?: ((file: string) => Promise<string>) | undefined
  /**
   * Bring all to the disk whenever this many bytes of input are done with, and go on from there when the same work is
   * begun again. Needs an output prefix that no other process uses. Default: a stopped work leaves nothing.
   */
  readonly resumeEveryBytes?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Called after each batch, and once at the end with `doneBytes === totalBytes`. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined
}

/** The corpora of the options, and what they weigh if they do. @throws InputError for options that cannot be. */
export function corporaOf({ files, jsonKeys = ['text'] }: Pick<PreprocessOptions, 'files' | 'jsonKeys'>): {
  readonly corpora: readonly CorpusFiles[]
  readonly weights?: readonly number[] | undefined
} {
  if (jsonKeys.length === 0 || new Set(jsonKeys).size < jsonKeys.length) {
    throw new InputError(`jsonKeys are ${JSON.stringify(jsonKeys)}; at least one is needed, and each once.`, {
      field: 'jsonKeys',
    })
  }
  const corpora = files.filter(file => typeof file !== 'string')
  if (corpora.length === 0) return { corpora: [{ files: files.filter(file => typeof file === 'string'), jsonKeys }] }
  const weights = corpora.flatMap(({ weight }) => (weight === undefined ? [] : [weight]))
  if (weights.length === 0) return { corpora }
  if (weights.length === corpora.length && weights.every(weight => weight > 0 && weight < Number.POSITIVE_INFINITY))
    return { corpora, weights }
  const given = corpora.map(({ weight }) => weight ?? 'none').join(', ')
  throw new InputError(`The weights of the corpora are ${given}; all have one above 0, or none has.`, {
    field: 'corpus',
  })
}

/** @throws InputError for rules that cannot be, or not together. */
export function checkRules(options: PreprocessOptions, handler: Handler): void {
  const { seqLength, overflow = 'drop', pack = false, validation, workers, jsonKeys = ['text'] } = options
  const refuse = (field: string, message: string, hint?: string) => {
    throw new InputError(message, { field, hint })
  }
  if (seqLength !== undefined && !(seqLength > 0))
    refuse('seqLength', `seqLength is ${seqLength}; it must be at least 1.`)
  if (overflow !== 'drop' && seqLength === undefined)
    refuse('overflow', `overflow is '${overflow}' without a seqLength to ${overflow} to.`)
  if (pack && !(seqLength !== undefined && seqLength > 1))
    refuse('pack', `pack needs the length to pack to: a seqLength of 2 or more, not ${seqLength ?? 'none'}.`)
  const keys = handler.keys(jsonKeys)
  if (pack && keys[0] !== 'input_ids')
    refuse(
      'pack',
      handler.infix === ''
        ? `${handler.name} gives text, which Megatron itself packs as it reads.`
        : `${handler.name} gives pairs of answers, which cannot be packed.`,
      'Leave pack out.',
    )
  if (overflow === 'split' && handler.infix === '_packed' && keys[0] !== 'input_ids')
    refuse('overflow', `${handler.name} gives pairs of answers, which cannot be split.`, "Choose 'drop' or 'truncate'.")
  if (validation !== undefined && !(validation > 0 && (validation < 1 || Number.isSafeInteger(validation))))
    refuse('validation', `validation is ${validation}; it is a share between 0 and 1, or a whole number of documents.`)
  if (workers !== undefined && !(Number.isSafeInteger(workers) && workers > 0))
    refuse('workers', `workers is ${workers}; it is 1 or more.`)
}
