import { type PythonValue, pythonText, readPythonJson, toPythonValue, writePythonJson } from './python-json.ts'

/** A function call as a template writes it; undefined when `content` is not JSON with `name` and `arguments`. */
export function readFunctionCall(content: string): { readonly name: string; readonly args: string } | undefined {
  const call = readPythonJson(content)
  const [name, args] = [field(call, 'name'), field(call, 'arguments')]
  return typeof name === 'string' && args !== undefined ? { name, args: writePythonJson(args) } : undefined
}

/** How a list of tools is read and written. */
export interface ToolTextOptions {
  readonly format: 'default' | 'glm4'
  /** Reads only what ModelLink reads: text, and no tools wrapped as OpenAI's API has them; `glm4` gives no text. */
  readonly exact: boolean
}

/**
 * The text that tells the model of its tools, `tools` being JSON or what was read from it; undefined when it is no list
 * of tools. Source: ModelLink, formatter.py, `default_tool_formatter`; for glm4, which ModelLink names and does not
 * have, LLaMA-Factory 0.9, tool_utils.py, which writes what the model's own chat template does.
 */
export function toolText(tools: unknown, { format, exact }: ToolTextOptions): string | undefined {
  if (exact && typeof tools !== 'string') return undefined
  const value = typeof tools === 'string' ? readPythonJson(tools) : toPythonValue(tools)
  const list = value instanceof Map && !exact ? [value] : value
  if (!Array.isArray(list)) return undefined
  if (list.length === 0) return ''
  if (exact && format === 'glm4') return undefined
  const all = (list as readonly PythonValue[]).map(tool => (exact ? tool : (field(tool, 'function') ?? tool)))
  return format === 'glm4' ? glm4Text(all) : defaultText(all)
}

function defaultText(tools: readonly PythonValue[]): string | undefined {
  const names: string[] = []
  let text = ''
  for (const tool of tools) {
    const [name, parameters] = [field(tool, 'name'), parametersText(field(tool, 'parameters'))]
    if (typeof name !== 'string' || parameters === undefined) return undefined
    const description = pythonText(field(tool, 'description') ?? '')
    text += `> Tool Name: ${name}\nTool Description: ${description}\nTool Args:\n${parameters}\n`
    names.push(name)
  }
  return (
    `You have access to the following tools:\n${text}Use the following format if using a tool:\n\`\`\`\n` +
    `Action: tool name (one of [${names.join(', ')}]).\nAction Input: the input to the tool, in a JSON format ` +
    'representing the kwargs (e.g. ```{"input": "hello world", "num_beams": 5}```).\n```\n'
  )
}

function parametersText(parameters: PythonValue | undefined): string | undefined {
  const properties = field(parameters, 'properties')
  if (!(properties instanceof Map)) return undefined
  const required = field(parameters, 'required') ?? []
  let text = ''
  for (const [name, parameter] of properties as ReadonlyMap<string, PythonValue>) {
    const [values, items] = [field(parameter, 'enum'), field(parameter, 'items')]
    if (!(parameter instanceof Map)) return undefined
    if (Array.isArray(values) && !values.every(value => typeof value === 'string')) return undefined
    const isRequired = Array.isArray(required) && required.includes(name)
    const choices = Array.isArray(values) && values.length > 0 ? `, should be one of [${values.join(', ')}]` : ''
    const each = items instanceof Map && items.size > 0
    const item = each ? `, where each item should be ${pythonText(field(items, 'type') ?? '')}` : ''
    const [type, description] = ['type', 'description'].map(key => pythonText(field(parameter, key) ?? ''))
    text += `  - ${name} (${type}${isRequired ? ', required' : ''}): ${description}${choices}${item}\n`
  }
  return text
}

function glm4Text(tools: readonly PythonValue[]): string | undefined {
  let text = ''
  for (const tool of tools) {
    const name = field(tool, 'name')
    if (typeof name !== 'string') return undefined
    text += `\n\n## ${name}\n\n${writePythonJson(tool, 4)}\n在调用上述函数时，请使用 Json 格式表示调用的参数。`
  }
  return (
    '你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，' +
    `你的任务是针对用户的问题和要求提供适当的答复和支持。# 可用工具${text}`
  )
}

function field(value: PythonValue | undefined, key: string): PythonValue | undefined {
  return value instanceof Map ? (value as ReadonlyMap<string, PythonValue>).get(key) : undefined
}
