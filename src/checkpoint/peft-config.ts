import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { FormatError, UnsupportedError } from '../errors.ts'

/** Names of the files of a PEFT folder. */
export const peftFiles = { config: 'adapter_config.json', weights: 'adapter_model.safetensors' } as const

/** What counts of an `adapter_config.json`: the product of the adapters counts `alpha / r` times. */
export interface PeftConfig {
  readonly r: number
  readonly alpha: number
}

const Config = z.looseObject({ peft_type: z.string(), r: z.int().min(1).max(65_536), lora_alpha: z.number() })
const maxConfigBytes = 2 ** 20

/** Fields that say nothing about what saved adapters compute. Every other field must be empty, or it is refused. */
const harmless: ReadonlySet<string> = new Set([
  ...['task_type', 'peft_type', 'auto_mapping', 'peft_version', 'base_model_name_or_path', 'revision'],
  ...['inference_mode', 'r', 'lora_alpha', 'lora_dropout', 'target_modules', 'exclude_modules', 'bias'],
  ...['layers_to_transform', 'layers_pattern', 'megatron_core', 'qalora_group_size', 'init_lora_weights'],
  ...['loftq_config', 'eva_config', 'runtime_config'],
])
/** Ways to begin that leave the base as it is; others (`pissa`, `olora`, …) save adapters to a changed base. */
const plainStarts: readonly unknown[] = [undefined, null, true, false, 'gaussian', 'eva', 'orthogonal']

/**
 * Reads the `adapter_config.json` of a PEFT folder.
 * @throws FormatError for damage; UnsupportedError naming the field that makes it something else than plain LoRA.
 */
export async function readPeftConfig(dir: string): Promise<PeftConfig> {
  const file = join(dir, peftFiles.config)
  const found = await stat(file).catch(() => undefined)
  if (!found?.isFile() || found.size > maxConfigBytes) {
    const expected = `a file of at most ${maxConfigBytes} bytes`
    throw new FormatError({ file, expected, found: found === undefined ? 'none' : `${found.size} bytes` })
  }
  let json: unknown
  try {
    json = JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    throw new FormatError({ file, expected: 'JSON', found: (cause as Error).message, cause })
  }
  const parsed = Config.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    const found = `${issue.path.join('.')}: ${issue.message}`
    throw new FormatError({ file, expected: 'the configuration of LoRA adapters', found, cause: parsed.error })
  }
  const { data } = parsed
  const refuse = (field: string): never => {
    const value = JSON.stringify(data[field]).slice(0, 60)
    throw new UnsupportedError(`${file}: ${field} is ${value}; plain LoRA adapters are read.`)
  }
  if (data.peft_type !== 'LORA') refuse('peft_type')
  if (data.bias !== undefined && data.bias !== 'none') refuse('bias')
  if (!plainStarts.includes(data.init_lora_weights)) refuse('init_lora_weights')
  for (const [field, value] of Object.entries(data)) {
    const isEmpty = value === null || value === false || (typeof value === 'object' && Object.keys(value).length === 0)
    if (!harmless.has(field) && !isEmpty) refuse(field)
  }
  return { r: data.r, alpha: data.lora_alpha }
}

/** The `adapter_config.json` of plain LoRA adapters. */
export function peftConfigText(options: PeftConfig & { base: string; modules: readonly string[] }): string {
  const config = {
    ...{ peft_type: 'LORA', task_type: 'CAUSAL_LM', base_model_name_or_path: options.base, revision: null },
    ...{ inference_mode: true, r: options.r, lora_alpha: options.alpha, lora_dropout: 0, bias: 'none' },
    ...{ target_modules: options.modules, fan_in_fan_out: false, init_lora_weights: true, modules_to_save: null },
    ...{ layers_to_transform: null, layers_pattern: null, rank_pattern: {}, alpha_pattern: {} },
    ...{ use_rslora: false, use_dora: false },
  }
  return `${JSON.stringify(config, null, 2)}\n`
}
