import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { FormatError } from '../../errors.ts'
import type { AddedToken } from './added-tokens.ts'
import { type AddedTokenSpec, readAddedToken } from './added-vocabulary.ts'
import { isId } from './bpe-model.ts'
import { vendorClasses } from './vendor-class.ts'

/** What the files beside `tokenizer.json` say about it. */
export interface TokenizerConfig {
  /** Name of the tokenizer's class without `Fast`, where a file names one or the model type implies it. */
  readonly className?: string | undefined
  /** `legacy` of the class LlamaTokenizer: whether each section between added tokens gets a space in front. */
  readonly isLegacy: boolean
  /** What was taken otherwise than the files say, in words. */
  readonly adjustments: readonly string[]
  /** Special tokens by their role. */
  readonly special: Readonly<Partial<Record<SpecialRole, string>>>
  /** Added tokens whose flags replace those in `tokenizer.json`, and tokens that are not in it; in order. */
  readonly added: readonly AddedToken[]
  /** Special tokens, which are added where neither file has them among its added tokens; in order. */
  readonly specialTokens: readonly AddedTokenSpec[]
  /** Set when the tokenizer's class makes its own template of bos and eos, whatever `tokenizer.json` says. */
  readonly template?: { readonly bos: boolean; readonly eos: boolean } | undefined
  /** True when special tokens in the text are to be split like any other text. */
  readonly splitSpecialTokens: boolean
}

const specialRoles = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
] as const
type SpecialRole = (typeof specialRoles)[number]

/** Classes of transformers 4.36 to 4.43 that do more than tokenizer.json says. Source: models/*\/tokenization_*_fast.py. */
const classes: Readonly<Record<string, { defaults: Partial<Record<SpecialRole, string>>; makesTemplate: boolean }>> = {
  LlamaTokenizer: { defaults: { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' }, makesTemplate: true },
  CodeLlamaTokenizer: { defaults: { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' }, makesTemplate: true },
  GemmaTokenizer: {
    defaults: { bos_token: '<bos>', eos_token: '<eos>', unk_token: '<unk>', pad_token: '<pad>' },
    makesTemplate: true,
  },
  Qwen2Tokenizer: {
    defaults: { eos_token: '<|endoftext|>', unk_token: '<|endoftext|>', pad_token: '<|endoftext|>' },
    makesTemplate: false,
  },
  GPT2Tokenizer: {
    defaults: { bos_token: '<|endoftext|>', eos_token: '<|endoftext|>', unk_token: '<|endoftext|>' },
    makesTemplate: false,
  },
}

/** Class by `model_type` of config.json, where tokenizer_config.json names none. Source: tokenization_auto.py. */
const classByModelType: Readonly<Record<string, string>> = {
  llama: 'LlamaTokenizer',
  mistral: 'LlamaTokenizer',
  mixtral: 'LlamaTokenizer',
  gemma: 'GemmaTokenizer',
  qwen2: 'Qwen2Tokenizer',
  gpt2: 'GPT2Tokenizer',
}

/**
 * Reads tokenizer_config.json and special_tokens_map.json (config.json for the class) as `AutoTokenizer` does, and what
 * a model's own code has instead.
 * Source: transformers 4.43, tokenization_utils_base.py `_from_pretrained`, tokenization_utils_fast.py.
 */
export async function readTokenizerConfig(folder: string): Promise<TokenizerConfig> {
  const file = join(folder, 'tokenizer_config.json')
  const config = (await readJsonObject(file)) ?? {}
  const model = (await readJsonObject(join(folder, 'config.json'))) ?? {}
  // With added_tokens_decoder the configuration is complete, and the older special_tokens_map.json is not looked at.
  const isComplete = isObject(config.added_tokens_decoder)
  const map = isComplete ? {} : ((await readJsonObject(join(folder, 'special_tokens_map.json'))) ?? {})
  const named = config.tokenizer_class ?? model.tokenizer_class ?? classByModelType[String(model.model_type)]
  const className = named === undefined ? undefined : String(named).replace(/Fast$/, '')
  const vendor = vendorClasses[className ?? '']
  const tokenizerClass = classes[className ?? ''] ?? vendor

  const special: Partial<Record<SpecialRole, string>> = {}
  const specs: AddedTokenSpec[] = []
  const adjustments: string[] = vendor?.note ? [vendor.note] : []
  for (const role of specialRoles) {
    const said = map[role] ?? (role in config ? config[role] : tokenizerClass?.defaults[role])
    const fixed = vendor?.fixed[role]
    const token = fixed ?? said ?? undefined
    if (fixed !== undefined && contentOf(said) !== fixed) {
      const found = contentOf(said) === undefined ? 'tokenizer_config.json names none' : `not ${contentOf(said)}`
      adjustments.push(`${role} taken as ${fixed}: ${vendor?.reason}, ${found}.`)
    }
    const content = contentOf(token)
    if (content === undefined) continue
    special[role] = content
    // What the code returns by itself is not looked for in the text.
    if (fixed === undefined) specs.push(specialToken(token, content))
  }
  const additional = map.additional_special_tokens ?? config.additional_special_tokens
  for (const token of Array.isArray(additional) ? additional : []) {
    const content = contentOf(token)
    if (content !== undefined) specs.push(specialToken(token, content))
  }
  return {
    className,
    isLegacy: config.legacy !== false,
    adjustments,
    special,
    added: readDecoder(config.added_tokens_decoder, file),
    specialTokens: specs,
    template: tokenizerClass?.makesTemplate
      ? { bos: config.add_bos_token !== false, eos: config.add_eos_token === true }
      : undefined,
    splitSpecialTokens: config.split_special_tokens === true,
  }
}

function contentOf(token: unknown): string | undefined {
  return typeof token === 'string' ? token : readAddedToken(token)?.content
}

function specialToken(token: unknown, content: string): AddedTokenSpec {
  const plain = { content, singleWord: false, lstrip: false, rstrip: false, normalized: false, special: true }
  return (isObject(token) ? readAddedToken({ ...token, special: true }) : undefined) ?? plain
}

function readDecoder(decoder: unknown, file: string): AddedToken[] {
  if (!isObject(decoder)) return []
  // Integer-like keys of an object come in ascending order, which is the order that transformers sorts them into.
  return Object.entries(decoder).map(([id, token]) => {
    const spec = readAddedToken(token)
    if (spec && isId(Number(id))) return { ...spec, id: Number(id) }
    throw new FormatError({
      file,
      expected: `a token at added_tokens_decoder.${id}`,
      found: `${JSON.stringify(token)}`.slice(0, 60),
    })
  })
}

type JsonObject = Readonly<Record<string, unknown>>

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A JSON object, or undefined when there is no such file. @throws FormatError when it is something else. */
export async function readJsonObject(file: string): Promise<JsonObject | undefined> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  return text === undefined ? undefined : parseJsonObject(text, file)
}

/** The JSON object that the text of `file` is. @throws FormatError when it is something else. */
export function parseJsonObject(text: string, file: string): JsonObject {
  try {
    const value: unknown = JSON.parse(text.replace(/^\ufeff/, ''))
    if (isObject(value)) return value
  } catch (cause) {
    throw new FormatError({ file, expected: 'JSON', found: (cause as Error).message, cause })
  }
  throw new FormatError({ file, expected: 'a JSON object', found: text.slice(0, 20) })
}
