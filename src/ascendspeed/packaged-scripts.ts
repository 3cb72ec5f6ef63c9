import { InputError } from '../errors.ts'
import type { Launch, Word } from '../flow/launch.ts'

/** Variables of the packaged scripts, under the names of the vendor's guide; absent ones are left to the script. */
export interface PackagedVariables {
  readonly ORIGINAL_TRAIN_DATA_PATH?: string | undefined
  readonly ORIGINAL_HF_WEIGHT?: string | undefined
  readonly TOKENIZER_PATH?: string | undefined
  readonly PROCESSED_DATA_PREFIX?: string | undefined
  readonly CONVERT_MODEL_PATH?: string | undefined
  readonly MODEL_SAVE_PATH?: string | undefined
  readonly TOKENIZER_TYPE?: string | undefined
  readonly MODEL_NAME?: string | undefined
  readonly RUN_TYPE?: PackagedRun | undefined
  readonly DATA_TYPE?: string | undefined
  readonly MBS?: number | undefined
  readonly GBS?: number | undefined
  readonly TP?: number | undefined
  readonly PP?: number | undefined
  readonly LR?: number | undefined
  readonly MIN_LR?: number | undefined
  readonly SEQ_LEN?: number | undefined
  readonly MAX_PE?: number | undefined
  /** Rows of the data; the scripts make `TRAIN_ITERS` of it where that is absent: `SN / GBS * EPOCH`, cut first. */
  readonly SN?: number | undefined
  readonly EPOCH?: number | undefined
  readonly TRAIN_ITERS?: number | undefined
  readonly SEED?: number | undefined
  /** Convert back after training. The scripts ask whether it is set at all, so false is never passed on. */
  readonly CONVERT_MG2HF?: boolean | undefined
}

/** `RUN_TYPE`: pretraining, full fine-tuning, or LoRA. */
export type PackagedRun = 'pretrain' | 'sft' | 'lora'

/** Which script of the package to run: the whole pipeline of a model, or one part of it. */
export type PackagedScript =
  | { readonly part: 'pipeline'; readonly run: PackagedRun }
  | { readonly part: 'preprocess' }
  /** `hf2hg` is the guide's spelling. */
  | { readonly part: 'convert'; readonly direction: 'hf2hg' | 'mg2hf' }

/** One start of a packaged script. */
export interface PackagedLaunch {
  /** `…/llm_train/AscendSpeed` of the unpacked AscendCloud-3rdLLM package. */
  readonly dir: string
  /** As in the guide's table: `llama2-13b`. */
  readonly model: string
  /** The model's folder below `scripts/`; default its name up to the size. The guide prints llama2, llama3, qwen, qwen1.5. */
  readonly folder?: string | undefined
  readonly script: PackagedScript
  readonly variables: PackagedVariables
  /** Run `scripts/install.sh` first, which clones and installs what the scripts need; default true. */
  readonly install?: boolean | undefined
  readonly nodes: number
  readonly devicesPerNode: number
}

const read = ['ORIGINAL_TRAIN_DATA_PATH', 'TOKENIZER_PATH']
/** Some of them are only read by some scripts, whose sources do not tell. */
const written = ['ORIGINAL_HF_WEIGHT', 'PROCESSED_DATA_PREFIX', 'CONVERT_MODEL_PATH', 'MODEL_SAVE_PATH']

/** The original model is written into on the way back only. */
const isRead = (name: string, { script }: PackagedLaunch) =>
  read.includes(name) || (name === 'ORIGINAL_HF_WEIGHT' && !(script.part === 'convert' && script.direction === 'mg2hf'))

/** Goes into the package, exports the pairs of words up to `--`, installs and runs what comes after. */
const program = [
  'cd "$1" || exit',
  'shift',
  'while [ "$1" != -- ]; do export "$1=$2"; shift 2; done',
  'shift',
  'if [ "$1" = install ]; then sh ./scripts/install.sh || exit; fi',
  'shift',
  'exec sh "$@"',
].join('; ')

/**
 * The launch of a packaged script, as the guide's job command line does it: install, then the script, with variables
 * in its environment.
 *
 * The sources of these scripts are not public: whether one gives way to a variable that is set already is theirs to
 * say. Source: the vendor's guide 6.3.905.
 * @throws InputError for a model without a size in its name, or a variable that is a negative number.
 */
export function packagedLaunch(packaged: PackagedLaunch): Launch {
  const { dir, script, install = true, nodes, devicesPerNode } = packaged
  const words: readonly Word[] = [
    ...variableWords(packaged),
    ...['--', install ? 'install' : 'installed', `./${packagedScriptPath(packaged)}`],
    ...(script.part === 'convert' ? [script.direction] : []),
  ]
  return { argv: ['sh', '-c', program, 'sh', { read: dir }, ...words], nodes, devicesPerNode }
}

/** The script below the package's folder: `scripts/llama2/0_pl_pretrain_13b.sh`, say. */
export function packagedScriptPath({ model, folder, script }: PackagedLaunch): string {
  const [, series, size] = /^([a-z0-9.]+)-(\d+(?:\.\d+)?b)$/.exec(model) ?? []
  if (series === undefined || size === undefined)
    throw new InputError(`${model}: expected a model's name as in the guide, llama2-13b say.`)
  const names = {
    pipeline: `0_pl_${script.part === 'pipeline' ? script.run : ''}_${size}.sh`,
    preprocess: '1_preprocess_data.sh',
    convert: '2_convert_mg_hf.sh',
  }
  return `scripts/${folder ?? series}/${names[script.part]}`
}

function variableWords(packaged: PackagedLaunch): readonly Word[] {
  const { variables, nodes, devicesPerNode } = packaged
  const { CONVERT_MG2HF, ...values } = variables
  const given = Object.entries(values).flatMap(([name, value]): readonly Word[] => {
    if (value === undefined) return []
    if (typeof value === 'number' && !(value >= 0)) throw new InputError(`${name} ${value}: expected a number from 0.`)
    if (typeof value === 'number') return [name, value]
    return [name, isRead(name, packaged) ? { read: value } : written.includes(name) ? { write: value } : value]
  })
  return [
    ...given,
    ...(CONVERT_MG2HF ? ['CONVERT_MG2HF', 'TRUE'] : []),
    ...['MASTER_ADDR', { node: 'masterAddr' } as const, 'MASTER_PORT', { node: 'masterPort' } as const],
    ...['NNODES', { node: 'count' } as const, 'NODE_RANK', { node: 'rank' } as const],
    ...(nodes > 0 && devicesPerNode > 0 ? ['GPUS_PER_NODE', devicesPerNode] : []),
  ]
}
