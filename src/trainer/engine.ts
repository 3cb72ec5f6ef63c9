import { InputError, LayoutError, UnsupportedError } from '../errors.ts'
import { planArena } from './arena.ts'
import type { EngineOptions } from './engine-options.ts'
import { compileKernels, instantiateKernels } from './kernels/load.ts'
import { requireMemory, smallerModel } from './memory-estimate.ts'
import type { Parameter } from './parameter.ts'
import type { Slot } from './parameters.ts'
import { startPool } from './pool.ts'
import { places } from './rank.ts'
import type { Sizes } from './sizes.ts'
import { settleThreads } from './threads.ts'

export interface UpdateOptions {
  readonly learningRate: number
  /** 1 for the first update: AdamW's bias correction. */
  readonly step: number
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
  readonly weightDecay: number
  /** Largest global L2 norm of the gradients; 0 leaves them as they are. */
  readonly clipGrad: number
}

/** A model in training: worker threads over one shared memory. One call at a time; close it when done. */
export interface Engine {
  readonly parameters: readonly Parameter[]
  /** Size of the shared memory in bytes. */
  readonly memoryBytes: number
  /**
   * Runs one micro-batch forward and backward and adds its gradients, times `scale` (default 1), to those held.
   * `tokens` and `labels` are [microBatchSize, seqLength]; labels are already shifted; -100 is not counted.
   * The loss is the mean over counted labels. With none counted nothing is added, and loss and count are 0.
   * @throws InputError on a wrong length or an id outside the vocabulary, JobError when a worker fails.
   */
  accumulate(
    tokens: Int32Array,
    labels: Int32Array,
    options?: { readonly scale?: number },
  ): Promise<{ loss: number; count: number }>
  /** Forward only. The loss is the sum over counted labels. */
  evaluate(tokens: Int32Array, labels: Int32Array): Promise<{ loss: number; count: number }>
  /**
   * Clips the held gradients by their global norm (Megatron: clip / (norm + 1e-6) where below 1), applies AdamW with
   * decoupled weight decay, and zeroes them. A norm that is not finite changes no weight and is reported as skipped.
   */
  update(options: UpdateOptions): Promise<{ gradNorm: number; skipped: boolean }>
  /** Ends the workers, also in the middle of a call, which is then rejected. */
  close(): Promise<void>
}

/**
 * Starts the workers of an engine for one model and batch shape.
 * @throws InputError on impossible options, LayoutError when the memory does not fit (the message says what to try).
 */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  checkOptions(options)
  const arena = planArena(options, settleThreads(options))
  requireMemory(arena, process.availableMemory())
  const module = compileKernels(options.numerics ?? 'reproducible')
  const pages = Math.ceil(arena.bytes / 65_536)
  const memory = allocate(pages)
  const { sizes } = arena
  instantiateKernels(module, memory).ropeTables(
    arena.cos,
    arena.sin,
    sizes.positions,
    sizes.headDim / 2,
    sizes.rotaryBase,
  )
  const parameters = arena.weights.slots.map(slot => parameterAt(memory, slot, arena.weights.stride))
  for (const { name, weight } of parameters) if (name.endsWith('norm.weight')) weight.fill(1)
  const pool = startPool(arena, { module, memory })
  const numbers = new Float64Array(memory.buffer, arena.numbers, Object.keys(places).length)
  const tokenWords = new Int32Array(memory.buffer, arena.tokens, sizes.tokens)
  const labelWords = new Int32Array(memory.buffer, arena.labels, sizes.tokens)
  const losses = new Float64Array(memory.buffer, arena.losses, sizes.tokens)
  const run = async (command: 'accumulate' | 'evaluate', tokens: Int32Array, labels: Int32Array, scale = 1) => {
    const count = checkBatch({ tokens, labels }, sizes)
    if (count === 0) return { sum: 0, count }
    await pool.run(command, () => {
      tokenWords.set(tokens)
      labelWords.set(labels)
      numbers[places.lossScale] = scale / count
    })
    return { sum: losses.reduce((a, b) => a + b, 0), count }
  }
  return {
    parameters,
    memoryBytes: pages * 65_536,
    async accumulate(tokens, labels, { scale = 1 } = {}) {
      if (!(scale > 0 && scale < Infinity)) throw new InputError(`scale is ${scale}; it must be above 0 and finite.`)
      const { sum, count } = await run('accumulate', tokens, labels, scale)
      return { loss: count === 0 ? 0 : sum / count, count }
    },
    async evaluate(tokens, labels) {
      const { sum, count } = await run('evaluate', tokens, labels)
      return { loss: sum, count }
    },
    async update(values) {
      for (const [name, value] of Object.entries(values)) {
        const lowest = name === 'step' ? 1 : 0
        if (!(value >= lowest && value < Infinity)) {
          throw new InputError(`${name} is ${value}; it must be ${lowest} or more, and finite.`)
        }
      }
      await pool.run('update', () => {
        for (const [name, value] of Object.entries(values)) numbers[places[name as keyof UpdateOptions]] = value
      })
      const gradNorm = numbers[places.gradNorm]!
      return { gradNorm, skipped: !Number.isFinite(gradNorm) }
    },
    close: pool.close,
  }
}

function allocate(pages: number): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
  } catch (cause) {
    const size = Math.ceil(pages / 16)
    throw new LayoutError(`Training needs ${size} MiB of memory, which this process could not get.`, {
      ...{ cause, hint: smallerModel },
    })
  }
}

function parameterAt({ buffer }: WebAssembly.Memory, { address, ...slot }: Slot, stride: number): Parameter {
  const length = slot.shape.reduce((a, b) => a * b, 1)
  const view = (copies: number) => new Float32Array(buffer, address + copies * stride, length)
  if (!slot.trainable) return { ...slot, weight: view(0) }
  return { ...slot, weight: view(0), gradient: view(1), firstMoment: view(2), secondMoment: view(3) }
}

/** Number of counted labels. */
function checkBatch(batch: { tokens: Int32Array; labels: Int32Array }, sizes: Sizes): number {
  const { batch: rows, positions, vocab } = sizes
  for (const [name, ids] of Object.entries(batch)) {
    const lowest = name === 'labels' ? ignored : 0
    if (ids.length !== sizes.tokens) {
      const expected = `microBatchSize · seqLength = ${rows} · ${positions} = ${sizes.tokens}`
      throw new InputError(`${name} has ${ids.length} ids; ${expected} are expected.`)
    }
    const wrong = ids.findIndex(id => id >= vocab || (id < 0 && id !== lowest))
    if (wrong < 0) continue
    throw new InputError(`${name}[${wrong}] is ${ids[wrong]}; the vocabulary has ${vocab} ids, from 0 on.`, {
      hint: "Was the data tokenised with this model's tokenizer?",
    })
  }
  return batch.labels.reduce((count, id) => (id === ignored ? count : count + 1), 0)
}

/** The label that is not counted, as in PyTorch. */
const ignored = -100

function checkOptions(options: EngineOptions): void {
  const { architecture: a } = options
  if (!families.includes(a.family)) {
    throw new UnsupportedError(
      `The embedded trainer does not know the family ${a.family}, only ${families.join(', ')}.`,
    )
  }
  const counts = {
    ...{ seqLength: options.seqLength, microBatchSize: options.microBatchSize, threads: settleThreads(options) },
    ...{ numLayers: a.numLayers, hiddenSize: a.hiddenSize, ffnHiddenSize: a.ffnHiddenSize, vocabSize: a.vocabSize },
    ...{ numAttentionHeads: a.numAttentionHeads, numQueryGroups: a.numQueryGroups, kvChannels: a.kvChannels },
    ...(options.lora && { 'lora.r': options.lora.r }),
  }
  for (const [name, value] of Object.entries(counts)) {
    if (!Number.isSafeInteger(value) || value < 1)
      throw new InputError(`${name} is ${value}; it must be a whole number above 0.`)
  }
  if (a.numAttentionHeads % a.numQueryGroups !== 0) {
    throw new InputError(
      `numAttentionHeads ${a.numAttentionHeads} is not a multiple of numQueryGroups ${a.numQueryGroups}.`,
    )
  }
  if (a.kvChannels % 2 !== 0)
    throw new InputError(`kvChannels is ${a.kvChannels}; rotary embedding needs an even number.`)
  if (options.lora && new Set(options.lora.targets).size !== options.lora.targets.length) {
    throw new InputError(`lora.targets names one twice: ${options.lora.targets.join(', ')}.`)
  }
}

/** Llama's mathematics under different weight names. Others differ: ALiBi, partial rotary embedding, extra norms. */
const families: readonly string[] = ['llama', 'qwen2', 'mistral']
