import { gpt4Pattern } from './split-pattern.ts'

/** A tokenizer class that a model folder brings as Python code of its own. */
export interface VendorClass {
  /** The file its code reads, whatever other tokenizer lies beside it. */
  readonly file: 'tokenizer.model' | 'qwen.tiktoken'
  /** Special tokens by role, where no file names them. */
  readonly defaults: Readonly<Record<string, string>>
  /** Special tokens by role that the code returns whatever the files say, and those that training needs named. */
  readonly fixed: Readonly<Record<string, string>>
  /** Why those, in words. */
  readonly reason?: string
  /** What the model's users are asked to edit that needs no edit here. */
  readonly note?: string
  /** Whether add_bos_token (default true) and add_eos_token (default false) say what goes around a text. */
  readonly makesTemplate: boolean
  /** Tokens before every text. */
  readonly prefix: readonly string[]
  /** Tokens that the code puts behind the file's own, in order. */
  readonly tokens: readonly string[]
  /** How text is cut, and prepared, before a tiktoken file's tokens are looked for; absent: the file is SentencePiece. */
  readonly split?: { readonly pattern: string; readonly isNfc: boolean }
  /** Whether these are found in any text, after it was normalized as a whole. */
  readonly findsTokens: boolean
}

const chatTokens = ['<|system|>', '<|user|>', '<|assistant|>', '<|observation|>']
const paddingNote =
  'padding_side: nothing is padded here, so the check of it in tokenization_chatglm.py need not be edited.'

/**
 * Sources: tokenization_baichuan.py (Baichuan2), tokenization_yi.py (Yi), tokenization_chatglm.py (ChatGLM3, GLM-4),
 * tokenization_qwen.py (Qwen) of the models' folders; eos and pad of Qwen: ModelLink, examples/qwen,
 * `--tokenizer-kwargs`.
 */
export const vendorClasses: Readonly<Record<string, VendorClass>> = {
  BaichuanTokenizer: {
    file: 'tokenizer.model',
    defaults: { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' },
    fixed: {},
    makesTemplate: true,
    prefix: [],
    tokens: [],
    findsTokens: false,
  },
  YiTokenizer: {
    file: 'tokenizer.model',
    defaults: {
      bos_token: '<|startoftext|>',
      eos_token: '<|endoftext|>',
      unk_token: '<unk>',
      pad_token: '<unk>',
    },
    fixed: {},
    makesTemplate: true,
    prefix: [],
    tokens: [],
    findsTokens: false,
  },
  ChatGLMTokenizer: {
    file: 'tokenizer.model',
    defaults: {},
    fixed: { eos_token: '</s>', unk_token: '<unk>', pad_token: '<unk>' },
    reason: "the model's own code says so",
    note: paddingNote,
    makesTemplate: false,
    prefix: ['[gMASK]', 'sop'],
    tokens: ['[MASK]', '[gMASK]', '[sMASK]', 'sop', 'eop', ...chatTokens],
    findsTokens: false,
  },
  ChatGLM4Tokenizer: {
    file: 'tokenizer.model',
    split: { pattern: gpt4Pattern(3), isNfc: false },
    defaults: {},
    fixed: { eos_token: '<|endoftext|>' },
    reason: "the model's own code says so",
    note: paddingNote,
    makesTemplate: false,
    prefix: ['[gMASK]', '<sop>'],
    tokens: [
      ...['<|endoftext|>', '[MASK]', '[gMASK]', '[sMASK]', '<sop>', '<eop>', ...chatTokens],
      ...['<|begin_of_image|>', '<|end_of_image|>', '<|begin_of_video|>', '<|end_of_video|>'],
    ],
    findsTokens: false,
  },
  QWenTokenizer: {
    file: 'qwen.tiktoken',
    split: { pattern: gpt4Pattern(1), isNfc: true },
    defaults: {},
    fixed: { eos_token: '<|endoftext|>', pad_token: '<|extra_0|>' },
    reason: 'training needs one and the toolchain passes this',
    makesTemplate: false,
    prefix: [],
    tokens: [
      ...['<|endoftext|>', '<|im_start|>', '<|im_end|>'],
      ...Array.from({ length: 205 }, (_, i) => `<|extra_${i}|>`),
    ],
    findsTokens: true,
  },
}
