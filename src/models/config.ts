import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { FormatError } from '../errors.ts'
import type { Architecture } from './architecture.ts'
import {
  ChatglmConfig,
  fromChatglmConfig,
  fromLlamaConfig,
  fromQwenConfig,
  LlamaConfig,
  QwenConfig,
} from './config-dialects.ts'
import { type Family, findFamily } from './families.ts'

/** Real ones have a few kilobytes. */
const maxConfigBytes = 2 ** 20

/** The numbers in the `config.json` of a Hugging Face folder. */
export async function readArchitecture(dir: string): Promise<Architecture> {
  const file = join(dir, 'config.json')
  let json: unknown
  try {
    const found = await stat(file)
    if (!found.isFile() || found.size > maxConfigBytes) throw new Error(`${found.size} bytes, or no file`)
    json = JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    const found = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file' : (cause as Error).message
    throw new FormatError({ file, expected: "a Hugging Face model's configuration", found, cause })
  }
  return architectureFromConfig(json, { file })
}

/**
 * The numbers in a parsed `config.json`. `model_type` chooses the family; absent keys take the family's defaults.
 *
 * @throws FormatError naming the key; UnsupportedError for other model types and for properties that no family has
 * (biases on other linear layers, other activations than SiLU).
 */
export function architectureFromConfig(json: unknown, options: { file?: string } = {}): Architecture {
  const { file = 'config.json' } = options
  const type = z.object({ model_type: z.string() }).safeParse(json)
  if (!type.success) throw new FormatError({ file, expected: 'a model_type', found: issueText(type.error) })
  const family = findFamily(type.data.model_type)
  return { family: family.name, ...numbersFrom(family, json, file) }
}

function numbersFrom(family: Family, json: unknown, file: string): Omit<Architecture, 'family'> {
  const parse = <T>(schema: z.ZodType<T>): T => {
    const parsed = schema.safeParse(json)
    if (parsed.success) return parsed.data
    const expected = `the configuration of a ${family.name} model`
    throw new FormatError({ file, expected, found: issueText(parsed.error) })
  }
  switch (family.dialect) {
    case 'llama':
      return fromLlamaConfig(parse(LlamaConfig), { family, file })
    case 'qwen':
      return fromQwenConfig(parse(QwenConfig), { family, file })
    case 'chatglm':
      return fromChatglmConfig(parse(ChatglmConfig), { family, file })
  }
}

function issueText(error: z.ZodError): string {
  return error.issues.map(issue => `${issue.path.join('.') || 'the whole'}: ${issue.message}`).join('; ')
}
