import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { readFunctionCall, toolText } from '../../src/data/handlers/tool-text.ts'

const golden = JSON.parse(readFileSync(new URL('./golden/handlers/tools.json', import.meta.url), 'utf8')) as {
  readonly tools: readonly (readonly [string, string])[]
  readonly calls: readonly (readonly [string, string])[]
}

test.each(golden.tools)('the tools %j are written as ModelLink writes them', (tools, expected) => {
  expect(toolText(tools, { format: 'default', exact: true }) ?? '').toBe(expected)
})

test.each(golden.calls)('the function call %j is written as ModelLink writes it', (content, expected) => {
  const call = readFunctionCall(content)
  expect(call ? `${call.name}|${call.args}` : '|').toBe(expected)
})

test('tools that were read already, a single one, and those in the form of the OpenAI API are written alike', () => {
  const tool = { name: 'a', parameters: { properties: {} } }
  const options = { format: 'default', exact: false } as const
  const expected = toolText(JSON.stringify([tool]), options)
  expect(expected).toContain('> Tool Name: a\n')
  for (const tools of [[tool], tool, [{ type: 'function', function: tool }], JSON.stringify(tool)]) {
    expect(toolText(tools, options)).toBe(expected)
  }
})

test("glm4's tools are written as the model's chat template writes them, where ModelLink writes nothing", () => {
  const tools = '[{"name": "天气", "parameters": {"properties": {}, "required": [1.0, {"a": []}]}}]'
  expect(toolText(tools, { format: 'glm4', exact: true })).toBeUndefined()
  // From Python: json.dumps(tool, indent=4, ensure_ascii=False).
  const body =
    '{\n    "name": "天气",\n    "parameters": {\n        "properties": {},\n        "required": [\n            1.0,\n' +
    '            {\n                "a": []\n            }\n        ]\n    }\n}'
  expect(toolText(tools, { format: 'glm4', exact: false })).toBe(
    '你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，你的任务是针对用户的问题和要求提供适当的' +
      `答复和支持。# 可用工具\n\n## 天气\n\n${body}\n在调用上述函数时，请使用 Json 格式表示调用的参数。`,
  )
})
