import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { InputError, UnsupportedError } from '../errors.ts'

/** The toolchain's generations, oldest first: each has its entry points, arguments and checkpoint layouts. */
export const generations = ['modellink-1.0', 'modellink-1.1', 'modellink-rc3', 'mindspeed-llm'] as const

export type Generation = (typeof generations)[number]

/** What a generation's checkout looks like; paths are taken from its root. */
export interface GenerationFacts {
  readonly title: string
  /** A file or folder that only this generation (and, for `convert`, none before it) has. */
  readonly marker: string
  readonly preprocess: string
  readonly convert: string
  readonly pretrain: string
  /** Full and LoRA fine-tuning on instruction data. */
  readonly finetune: string
  /** State dicts that its converter writes and its example scripts train. */
  readonly layouts: readonly ('legacy' | 'mcore')[]
  /** Folder below `--save-dir` in which an exported Hugging Face model is found. */
  readonly exportFolder: 'mg2hg' | 'mg2hf'
}

const beforeRoot = {
  marker: 'tools/checkpoint/util.py',
  preprocess: 'tools/preprocess_data.py',
  pretrain: 'pretrain_gpt.py',
  finetune: 'pretrain_gpt.py',
  layouts: ['legacy'],
  exportFolder: 'mg2hg',
} as const

const atRoot = {
  preprocess: 'preprocess_data.py',
  convert: 'convert_ckpt.py',
  pretrain: 'pretrain_gpt.py',
  layouts: ['legacy', 'mcore'],
  exportFolder: 'mg2hf',
} as const

/**
 * Source: ModelLink 182331e9 (1.0), 43fb3461 (1.1) and d4feda79 (master of September 2024, from which 1.0.RC3 was cut);
 * MindSpeed-LLM b626d239 (2.0.0), of which 1.0.0 differs in no flag that is used here.
 */
export const generationFacts: Readonly<Record<Generation, GenerationFacts>> = {
  'modellink-1.0': { ...beforeRoot, title: 'ModelLink 1.0', convert: 'tools/checkpoint/util.py' },
  'modellink-1.1': {
    ...beforeRoot,
    title: 'ModelLink 1.1',
    marker: 'tools/checkpoint/convert_ckpt.py',
    convert: 'tools/checkpoint/convert_ckpt.py',
  },
  'modellink-rc3': { ...atRoot, title: 'ModelLink 1.0.RC3', marker: 'convert_ckpt.py', finetune: 'pretrain_gpt.py' },
  'mindspeed-llm': { ...atRoot, title: 'MindSpeed-LLM', marker: 'mindspeed_llm', finetune: 'posttrain_gpt.py' },
}

/**
 * The generation of the checkout in `dir`, told by the files that it has; newer markers are looked for first.
 * @throws InputError when it is no checkout, or lacks one of the generation's entry points; UnsupportedError for
 * AscendSpeed of 2023 and for a MindSpeed-LLM without `convert_ckpt.py`.
 */
export function detectGeneration(dir: string): Generation {
  const has = (path: string) => existsSync(join(dir, path))
  for (const generation of generations.toReversed()) {
    const { marker, title, convert, preprocess, pretrain, finetune } = generationFacts[generation]
    if (!has(marker)) continue
    if (generation === 'mindspeed-llm' && !has(convert) && has('convert_ckpt_v2.py'))
      throw new UnsupportedError(`${dir} is a MindSpeed-LLM without convert_ckpt.py; releases 1.0.0 to 2.x are known.`)
    for (const entry of [convert, preprocess, pretrain, finetune])
      if (!has(entry)) throw new InputError(`${dir} looks like ${title} but has no ${entry}.`)
    return generation
  }
  if (has('tools/ckpt_convert'))
    throw new UnsupportedError(`${dir} is AscendSpeed of 2023, whose checkpoints no later toolchain reads.`, {
      hint: 'Use ModelLink 1.0 or later.',
    })
  const markers = generations.map(generation => generationFacts[generation].marker)
  throw new InputError(`${dir} is no checkout of the toolchain: it has none of ${markers.join(', ')}.`, {
    hint: 'Name the folder that holds pretrain_gpt.py, or the generation where that folder is on other machines.',
  })
}
