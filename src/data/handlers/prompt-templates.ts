/** Text with placeholders in double braces, a token by its name, or the tokenizer's bos or eos. */
export type Slot = string | { readonly token: string } | { readonly special: 'bos' | 'eos' }

/** How a conversation is written: one list of slots for each kind of message, each slot tokenised on its own. */
export interface PromptTemplate {
  /** Before the first message. */
  readonly prefix: readonly Slot[]
  /** Before each later message of the user's side. */
  readonly separator: readonly Slot[]
  readonly system: readonly Slot[]
  readonly user: readonly Slot[]
  readonly assistant: readonly Slot[]
  /** What a tool answered. */
  readonly observation: readonly Slot[]
  /** The assistant's call of a tool. */
  readonly function: readonly Slot[]
  /** How the list of tools is written behind the system text. */
  readonly tools: 'default' | 'glm4'
  /** System text of rows that have none. */
  readonly defaultSystem: string
  /** Tokens that the tokenizer must know; the first is its eos where `replaceEos` says so. */
  readonly stopWords: readonly string[]
  readonly replaceEos: boolean
  /** One eos ends the conversation, and the first token of each later turn is trained to be eos. */
  readonly efficientEos: boolean
  /** Whether the system text stands in the first user message instead of before it. */
  readonly systemInUser: boolean
}

const bos = { special: 'bos' } as const
const eos = { special: 'eos' } as const
const token = (name: string) => ({ token: name })

function template(parts: Partial<PromptTemplate>): PromptTemplate {
  const end = parts.efficientEos ? [] : [eos]
  return {
    prefix: [],
    separator: [],
    system: ['{{content}}'],
    user: ['{{content}}'],
    assistant: ['{{content}}', ...end],
    observation: parts.user ?? ['{{content}}'],
    function: ['Action: {{name}}\nAction Input: {{arguments}}', ...end],
    tools: 'default',
    defaultSystem: '',
    stopWords: [],
    replaceEos: false,
    efficientEos: false,
    systemInUser: false,
    ...parts,
  }
}

const chatml: Partial<PromptTemplate> = {
  separator: ['\n'],
  system: ['<|im_start|>system\n{{content}}<|im_end|>\n'],
  user: ['<|im_start|>user\n{{content}}<|im_end|>\n<|im_start|>assistant\n'],
  observation: ['<|im_start|>tool\n{{content}}<|im_end|>\n<|im_start|>assistant\n'],
  stopWords: ['<|im_end|>', '<|im_start|>'],
  replaceEos: true,
}

const chatglm3: Partial<PromptTemplate> = {
  prefix: [token('[gMASK]'), token('sop')],
  system: [token('<|system|>'), '\n', '{{content}}'],
  user: [token('<|user|>'), '\n', '{{content}}', token('<|assistant|>')],
  assistant: ['\n', '{{content}}'],
  observation: [token('<|observation|>'), '\n', '{{content}}', token('<|assistant|>')],
  tools: 'glm4',
  stopWords: ['<|user|>', '<|observation|>'],
  efficientEos: true,
}

const mistral: Partial<PromptTemplate> = { prefix: [bos], user: ['[INST] {{content}} [/INST]'] }

const deepseek: Partial<PromptTemplate> = {
  prefix: [bos],
  system: ['{{content}}\n\n'],
  user: ['User: {{content}}\n\nAssistant:'],
}

/** Source: ModelLink (September 2024), modellink/tasks/preprocess/templates.py. */
export const promptTemplates = {
  default: template({ separator: ['\n'], system: ['{{content}}\n'], user: ['Human: {{content}}\nAssistant:'] }),
  empty: template({ assistant: ['{{content}}'] }),
  alpaca: template({
    separator: ['\n\n'],
    user: ['### Instruction:\n{{content}}\n\n### Response:\n'],
    defaultSystem:
      'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n',
  }),
  llama2: template({
    system: ['<<SYS>>\n{{content}}\n<</SYS>>\n\n'],
    user: [bos, '[INST] {{content}} [/INST]'],
    systemInUser: true,
  }),
  llama3: template({
    prefix: [bos],
    system: ['<|start_header_id|>system<|end_header_id|>\n\n{{content}}<|eot_id|>'],
    user: [llama3Turn('user')],
    observation: [llama3Turn('tool')],
    stopWords: ['<|eot_id|>'],
    replaceEos: true,
  }),
  qwen: template({ ...chatml, defaultSystem: 'You are a helpful assistant.', stopWords: ['<|im_end|>'] }),
  chatml: template(chatml),
  chatml_de: template({ ...chatml, defaultSystem: 'Du bist ein freundlicher und hilfsbereiter KI-Assistent.' }),
  chatglm2: template({
    prefix: [token('[gMASK]'), token('sop')],
    separator: ['\n\n'],
    user: ['[Round {{idx}}]\n\n问：{{content}}\n\n答：'],
    efficientEos: true,
  }),
  chatglm3: template(chatglm3),
  chatglm3_system: template({
    ...chatglm3,
    prefix: [],
    system: [token('[gMASK]'), token('sop'), token('<|system|>'), '\n', '{{content}}'],
    function: ['{{name}}\n{{arguments}}'],
    tools: 'default',
    defaultSystem:
      'You are ChatGLM3, a large language model trained by Zhipu.AI. ' +
      "Follow the user's instructions carefully. Respond using markdown.",
  }),
  glm4: template({
    prefix: ['[gMASK]<sop>'],
    system: ['<|system|>\n{{content}}'],
    user: ['<|user|>\n{{content}}<|assistant|>'],
    assistant: ['\n{{content}}'],
    observation: ['<|observation|>\n{{content}}<|assistant|>'],
    function: ['{{name}}\n{{arguments}}'],
    tools: 'glm4',
    stopWords: ['<|user|>', '<|observation|>'],
    efficientEos: true,
  }),
  mistral: template(mistral),
  mixtral: template(mistral),
  gemma: template({
    prefix: [bos],
    separator: ['<end_of_turn>\n'],
    user: ['<start_of_turn>user\n{{content}}<end_of_turn>\n<start_of_turn>model\n'],
    observation: ['<start_of_turn>tool\n{{content}}<end_of_turn>\n<start_of_turn>model\n'],
    efficientEos: true,
  }),
  deepseek2: template(deepseek),
  'deepseek2-lite': template(deepseek),
} satisfies Record<string, PromptTemplate>

/** Name of a prompt template, as ModelLink's `--prompt-type` has it. */
export type PromptType = keyof typeof promptTemplates

export const promptTypes = Object.keys(promptTemplates) as readonly PromptType[]

function llama3Turn(role: string): string {
  const answer = '<|start_header_id|>assistant<|end_header_id|>\n\n'
  return `<|start_header_id|>${role}<|end_header_id|>\n\n{{content}}<|eot_id|>${answer}`
}
