import { InputError } from '../errors.ts'
import type { Word } from '../flow/launch.ts'
import { checkFlagWords, type FlagWords, splitFlags, wordText } from './flag-words.ts'
import { generationFacts } from './generations.ts'
import { acceptedFlags } from './parsers.ts'
import type { ToolchainCommand } from './toolchain.ts'

/** A command with further arguments. @throws InputError as `checkExtraArgs` does. */
export function withExtraArgs<command extends ToolchainCommand>(planned: command, extraArgs: readonly Word[]): command {
  return { ...planned, argv: [...planned.argv, ...checkExtraArgs(extraArgs, planned)] }
}

/**
 * Gives those of `extraArgs` that a planned command does not say already.
 * @throws InputError naming the argument that the generation's parser does not know or would refuse, that is given
 * twice, that says otherwise than the plan does, or that the plan decides by leaving it out.
 */
export function checkExtraArgs(extraArgs: readonly Word[], planned: ToolchainCommand): readonly Word[] {
  const accepted = acceptedFlags(planned.generation, planned.parsers)
  const first = extraArgs[0]
  if (first !== undefined && !(typeof first === 'string' && first.startsWith('--')))
    throw new InputError(`extraArgs start with '${wordText(first)}'; expected a flag like --recompute-granularity.`)
  const plannedFlags = new Map(splitFlags(planned.argv).map(given => [given.flag, given]))
  const seen = new Set<string>()
  return splitFlags(extraArgs).flatMap(extra => {
    const { flag, values } = extra
    const type = accepted.get(flag)
    if (type === undefined) throw unknownFlag(flag, { planned, accepted: [...accepted.keys()] })
    checkFlagWords(extra, type)
    if (seen.has(flag)) throw new InputError(`extraArgs give ${flag} twice.`)
    seen.add(flag)
    const said = plannedFlags.get(flag)
    if (said && line(said) === line(extra)) return []
    if (said) throw new InputError(`extraArgs: ${line(extra)} contradicts the plan, which says ${line(said)}.`)
    if (isDecided(flag, planned))
      throw new InputError(`extraArgs: ${line(extra)} contradicts the plan, which has none.`)
    return [flag, ...values]
  })
}

const line = ({ flag, values }: FlagWords) => [flag, ...values.map(wordText)].join(' ')

function unknownFlag(
  flag: string,
  { planned, accepted }: { readonly planned: ToolchainCommand; readonly accepted: readonly string[] },
): InputError {
  const near = accepted.filter(known => known.startsWith(flag) || (flag.startsWith(known) && known.length > 5))
  const hint = near.length > 0 && near.length <= 5 ? `There is ${near.join(', ')}.` : undefined
  return new InputError(`extraArgs: ${generationFacts[planned.generation].title} knows no ${flag} here.`, { hint })
}

function isDecided(flag: string, { parsers }: ToolchainCommand): boolean {
  const name = flag.slice(2)
  return parsers.includes('train') ? decidedInTraining.has(name) : !freeInTools.has(name)
}

/** Flags of training whose absence says something: of the model, the layout, the data, where to begin and how long. */
const decidedInTraining: ReadonlySet<string> = new Set(
  [
    // The model.
    'num-layers encoder-num-layers decoder-num-layers hidden-size ffn-hidden-size num-attention-heads kv-channels',
    'group-query-attention num-query-groups max-position-embeddings position-embedding-type rotary-base',
    'use-rotary-position-embeddings rotary-percent rotary-interleaved rotary-seq-len-interpolation-factor',
    'use-partial-rope use-glm-rope rope-scaling-type rope-scaling-factor sliding-window square-alibi-mask fill-neg-inf',
    'rope-scaling-original-max-position-embeddings normalization norm-epsilon apply-layernorm-1p add-rmsnorm-offset',
    'swiglu geglu openai-gelu squared-relu add-qkv-bias add-dense-bias skip-bias-add qk-layernorm post-norm',
    'embed-layernorm input-embeds-norm untie-embeddings-and-output-weights padded-vocab-size vocab-size num-experts',
    'apply-residual-connection-post-layernorm multi-head-latent-attention use-mcore-models use-checkpoint-args spec',
    // The layout.
    'tensor-model-parallel-size pipeline-model-parallel-size num-layers-per-virtual-pipeline-stage num-layer-list',
    'context-parallel-size expert-model-parallel-size pipeline-model-parallel-split-rank standalone-embedding-stage',
    'noop-layers model-parallel-size',
    // The data.
    'data-path train-data-path valid-data-path test-data-path split mock-data is-instruction-dataset',
    'is-pairwise-dataset stage prompt-type seq-length encoder-seq-length decoder-seq-length eod-mask-loss',
    // Where it begins and how long it takes.
    'load save finetune ckpt-step no-load-optim no-load-rng lora-load lora-r lora-alpha lora-target-modules',
    'lora-modules-to-save pretrained-checkpoint train-iters train-samples micro-batch-size batch-size',
    'global-batch-size rampup-batch-size lr-warmup-iters lr-warmup-fraction lr-warmup-samples lr-decay-samples warmup',
    'override-opt_param-scheduler use-checkpoint-opt_param-scheduler bf16 fp16',
  ].flatMap(names => names.split(' ')),
)

/** Flags of the other tools that change how they work, not what they make. */
const freeInTools: ReadonlySet<string> = new Set([
  ...['max-queue-size', 'no-checking', 'megatron-path', 'ckpt-cfg-path', 'load-hf-from-config'],
  ...['streaming', 'cache-dir', 'overwrite-cache', 'n-subs', 'dataset-impl', 'tokenizer-not-use-fast'],
])
