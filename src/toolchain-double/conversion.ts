import type { Dirent } from 'node:fs'
import { cp, mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generationFacts } from '../ascendspeed/generations.ts'
import { acceptedFlags, type ParserName } from '../ascendspeed/parsers.ts'
import { toolFlags } from '../ascendspeed/tool-flags.ts'
import { iterationFolder, trackerPath } from '../checkpoint/megatron-folder.ts'
import { openHfModel } from '../checkpoint/open-hf-model.ts'
import { openMegatronCheckpoint } from '../checkpoint/open-megatron.ts'
import { writeHfModel } from '../checkpoint/write-hf-model.ts'
import { writeMegatronCheckpoint } from '../checkpoint/write-megatron.ts'
import type { FloatDtype } from '../formats/float-dtype.ts'
import { paddedVocabSize } from '../layout/vocab-padding.ts'
import type { Architecture } from '../models/architecture.ts'
import { readArchitecture } from '../models/config.ts'
import { type ParsedFlags, parseFlags } from './argparse.ts'
import { errorMessages } from './error-messages.ts'
import { faultAt, logsToStderr, packageName, programName, raise, scratchFolder, type Tool } from './tool.ts'

/**
 * The converter, by the native engine. Gives the exit status, which is 0 when the half that saves fails.
 * Source of what it says: ModelLink 1.1, tools/checkpoint/convert_ckpt.py and its plug-ins; RC3, convert_ckpt.py.
 */
export async function convertTool(tool: Tool, argv: readonly string[]): Promise<number> {
  const plugins = findPlugins(tool, argv)
  if (typeof plugins === 'string') {
    tool.printError(plugins)
    return 1
  }
  const fromHf = !/^loader_(megatron|mg)$/.test(plugins.loader)
  const flags = parseFlags(argv, {
    program: programName(tool),
    accepted: acceptedFlags(tool.generation, ['convert', plugins.loader, plugins.saver]),
    required: ['model-type', 'load-dir', 'save-dir', ...(fromHf ? ['tokenizer-model'] : [])],
    choices: { ...choices, ...(plugins.saver === 'saver' && { 'save-model-type': ['mg', 'hf'] }) },
  })
  const one = (name: string) => flags.get(name)?.[0]
  const prefix = logsToStderr(tool) ? `${packageName(tool)}.tasks.checkpoint.` : ''
  for (const [kind, name] of Object.entries(plugins)) tool.print(`Loaded ${prefix}${name} as the ${kind}.`)
  tool.print('Starting saver...')
  tool.print('Starting loader...')
  const work: Conversion = { tool, flags, loadDir: one('load-dir')!, saveDir: one('save-dir')!, ...plugins }
  if (faultAt(tool, 'host-oom')) tool.kill()
  const scratch = scratchFolder(tool)
  try {
    await (fromHf ? toMegatron(work, scratch) : toHf(work, scratch))
    tool.print('Waiting for saver to complete...')
    return 0
  } catch (error) {
    const failed = raise(tool, error instanceof Error ? error.message : String(error))
    return error instanceof SaverError ? 0 : failed
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** An exception in the process that saves: its parent does not look at how that ends. */
class SaverError extends Error {}

interface Conversion {
  readonly tool: Tool
  readonly flags: ParsedFlags
  readonly loadDir: string
  readonly saveDir: string
  readonly loader: ParserName
  readonly saver: ParserName
}

const choices = {
  'model-type': ['GPT', 'BERT'],
  'load-model-type': ['hf', 'mg'],
  'params-dtype': ['fp16', 'bf16'],
}

function findPlugins(
  { generation }: Tool,
  argv: readonly string[],
): { readonly loader: ParserName; readonly saver: ParserName } | string {
  const after = (flag: string) => (argv.includes(flag) ? argv[argv.indexOf(flag) + 1] : undefined)
  const from = after('--load-model-type')
  const loader = from ?? after('--loader') ?? 'megatron'
  const saver = from === undefined ? `saver_${after('--saver') ?? 'megatron'}` : 'saver'
  const found = { loader: `loader_${loader}` as ParserName, saver: saver as ParserName }
  const known = (name: ParserName) => name in toolFlags && acceptedFlags(generation, [name]).size > 0
  if (!known(found.loader)) return `Unable to load loader plugin ${loader}. Exiting.`
  return known(found.saver) ? found : `Unable to load saver plugin ${saver.replace('saver_', '')}. Exiting.`
}

async function toMegatron(
  { tool, flags, loadDir, saveDir, loader, saver }: Conversion,
  scratch: string,
): Promise<void> {
  const one = (name: string) => flags.get(name)?.[0]
  const source = await openHfModel(loadDir)
  try {
    const { architecture } = source
    const dtype = loader === 'loader_qwen_hf' ? 'fp16' : (one('params-dtype') ?? 'fp16')
    const tp = Number(one('target-tensor-parallel-size') ?? 1)
    const stages = one('num-layer-list')?.split(',').map(Number)
    const perStage = one('num-layers-per-virtual-pipeline-stage')
    // Before RC3 the saver overwrites the divisor with 1: 1.1, saver_megatron.py:454.
    const divisor = logsToStderr(tool) ? Number(one('make-vocab-size-divisible-by') ?? 1) : 1
    await messages(tool, { architecture, flags })
    if (architecture.numQueryGroups % tp !== 0)
      throw new SaverError(`AssertionError: ${architecture.numQueryGroups} is not divisible by ${tp}`)
    await writeMegatronCheckpoint(scratch, {
      ...{ source, architecture, iteration: 1, layout: flags.has('use-mcore-models') ? 'mcore' : 'legacy' },
      parallel: {
        ...{ tp, pp: Number(one('target-pipeline-parallel-size') ?? 1), layersPerStage: stages },
        layersPerVirtualStage: perStage === undefined ? undefined : Number(perStage),
      },
      dtype: floatDtypes[dtype]!,
      paddedVocabSize: paddedVocabSize({ vocabSize: architecture.vocabSize, tp, divisor }),
    })
  } finally {
    await source.close()
  }
  // Any other word saves nothing, and is done.
  if ((one('save-model-type') ?? 'megatron') !== (saver === 'saver' ? 'mg' : 'megatron')) return say(tool, 'Done!')
  const ranks = (await readdir(join(scratch, iterationFolder(1)), { withFileTypes: true })).filter(isFolder)
  const out = join(saveDir, iterationFolder(1))
  for (const [i, { name }] of ranks.entries()) {
    await cp(join(scratch, iterationFolder(1), name), join(out, name), { recursive: true })
    if (i === 0) await breakSaving(tool, join(out, name, 'model_optim_rng.pt'))
  }
  await writeFile(trackerPath(saveDir), '1')
  say(tool, 'Done!')
}

async function toHf({ tool, flags, loadDir, saveDir }: Conversion, scratch: string): Promise<void> {
  const one = (name: string) => flags.get(name)?.[0]
  const architecture = await readArchitecture(saveDir)
  const adapters = one('lora-dir') ?? one('lora-load')
  const source = await openMegatronCheckpoint(adapters ?? loadDir, {
    architecture,
    ...(adapters !== undefined && { base: loadDir }),
  })
  try {
    await messages(tool, { architecture, flags })
    const known = one('save-model-type') ?? ''
    if (!/^(hf|huggingface_bloom|save_huggingface_(llama|qwen|chatglm3))$/.test(known)) return say(tool, 'Done!')
    const { vocabSize } = architecture
    const kept = logsToStderr(tool) ? source.paddedVocabSize : Number(one('true-vocab-size') ?? source.paddedVocabSize)
    if (kept !== vocabSize) {
      const sizes = `(${vocabSize}) must match the size of tensor b (${kept})`
      throw new SaverError(`RuntimeError: The size of tensor a ${sizes} at non-singleton dimension 0`)
    }
    const config = JSON.parse(await readFile(join(saveDir, 'config.json'), 'utf8'))
    await mkdir(scratch, { recursive: true })
    const dtype = hfDtypes[config.torch_dtype ?? config.dtype]
    await writeHfModel(join(scratch, 'hf'), { source, architecture, like: saveDir, dtype })
  } finally {
    await source.close()
  }
  const out = join(saveDir, generationFacts[tool.generation].exportFolder)
  say(tool, `save weight to ${out}`)
  await mkdir(out, { recursive: true })
  const names = (await readdir(join(scratch, 'hf'))).filter(name => written.test(name))
  for (const name of names) {
    await cp(join(scratch, 'hf', name), join(out, name))
    if (name.endsWith('.safetensors')) await breakSaving(tool, join(out, name))
  }
  say(tool, 'Done!')
}

const floatDtypes: Readonly<Record<string, FloatDtype>> = { fp16: 'F16', bf16: 'BF16' }
const hfDtypes: Readonly<Record<string, FloatDtype>> = { float16: 'F16', bfloat16: 'BF16', float32: 'F32' }

/** What `save_pretrained` writes: no tokenizer. */
const written = /^(config|generation_config|model\.safetensors\.index)\.json$|\.safetensors$|\.py$/
const isFolder = (entry: Dirent) => entry.isDirectory()

/** What the two processes say of the weights that go from one to the other. */
async function messages(
  tool: Tool,
  { architecture, flags }: { readonly architecture: Architecture; readonly flags: ParsedFlags },
): Promise<void> {
  const layers = Array.from({ length: architecture.numLayers }, (_, i) => `transformer layer ${i}`)
  const names = ['embeddings', ...layers, 'final norm', ...(architecture.tiedEmbeddings ? [] : ['output layer'])]
  for (const [i, name] of names.entries()) {
    say(tool, `sending ${name}`)
    if (i === 1 && faultAt(tool, 'saver-failure')) {
      // The loader waits for ever once the queue is full of what nobody takes.
      for (const rest of names.slice(2)) say(tool, `sending ${rest}`)
      const error = 'RuntimeError: shape mismatch: value tensor cannot be broadcast to indexing result'
      if (names.length - 1 > Number(flags.get('max-queue-size')?.[0] ?? 50)) {
        raise(tool, error)
        await tool.hang()
      }
      throw new SaverError(error)
    }
    say(tool, `received ${name}`)
  }
}

/** What may go wrong while a file is written. */
async function breakSaving(tool: Tool, file: string): Promise<void> {
  const cut = faultAt(tool, 'disk-full') ?? faultAt(tool, 'hang-in-save')
  if (!cut) return
  await truncate(file, 100)
  if (cut.kind === 'hang-in-save') await tool.hang()
  throw new SaverError(file.endsWith('.pt') ? errorMessages['disk-full']() : noSpace)
}

const noSpace =
  'safetensors_rust.SafetensorError: Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'

function say(tool: Tool, line: string): void {
  if (logsToStderr(tool)) tool.printError(`INFO:root:${line}`)
  else tool.print(line)
}
