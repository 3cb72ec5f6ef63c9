import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { InputError, UnsupportedError } from '../errors.ts'
import { appearWhole, writeWhole } from '../formats/atomic-file.ts'
import { createSafetensors } from '../formats/safetensors-writer.ts'
import { dtypeBytes, type TensorInfo, type TensorSource } from '../formats/tensor.ts'
import type { Architecture } from '../models/architecture.ts'
import { adapterName } from '../models/lora-rules.ts'
import { blockBytes, checkCancelled } from './block-copy.ts'
import type { LoraSettings } from './megatron-args.ts'
import { openMegatronCheckpoint } from './open-megatron.ts'
import { peftConfigText, peftFiles } from './peft-config.ts'
import { type PeftModule, peftModules, peftTensor } from './peft-modules.ts'

export interface WritePeftOptions {
  /** The adapters under `adapterName`s, and what else the checkpoint holds. Not closed. */
  readonly source: TensorSource
  readonly architecture: Architecture
  readonly lora: LoraSettings
  /** Name or folder of the Hugging Face model that they go with, for `adapter_config.json`. */
  readonly model: string
  /** The weights that they were trained on: then embedding and output layer must be those of the base. */
  readonly base?: { readonly path: string; readonly iteration?: number | undefined } | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * Writes adapters as a PEFT folder. A fused layer's A goes to each of its parts (query, key and value say), which get
 * their rows of B: exactly the same products. The folder, which must not be there yet, appears whole or not at all. Memory: about 4 MiB.
 *
 * @throws UnsupportedError when embedding or output layer were trained too, which adapters cannot say.
 */
export async function writePeftAdapter(dir: string, options: WritePeftOptions): Promise<void> {
  const { source, architecture, lora, signal } = options
  const modules = peftModules(architecture).filter(({ target }) => lora.targets.includes(target))
  const infos = modules.flatMap(({ layer, target, module, shape }): TensorInfo[] => {
    const dtypeOf = (matrix: 'A' | 'B') => {
      const name = adapterName(layer, target, matrix)
      const found = source.tensors.get(name)
      if (found === undefined) throw new InputError(`The checkpoint has no tensor '${name}'.`)
      return found.dtype
    }
    return [
      { name: peftTensor(module, 'A'), dtype: dtypeOf('A'), shape: [lora.r, shape[1]] },
      { name: peftTensor(module, 'B'), dtype: dtypeOf('B'), shape: [shape[0], lora.r] },
    ]
  })
  if (options.base) await refuseTrained(source, { ...options, base: options.base })
  await appearWhole(dir, async folder => {
    await mkdir(folder, { recursive: true })
    const writer = await createSafetensors(join(folder, peftFiles.weights), infos, { metadata: { format: 'pt' } })
    try {
      for (const { layer, target, module, shape, rectangles } of modules) {
        checkCancelled(signal, `Writing the adapters ${dir}`)
        const copy = async (matrix: 'A' | 'B', start: number, rows: number): Promise<void> => {
          const name = adapterName(layer, target, matrix)
          const { dtype } = source.tensors.get(name)!
          const width = matrix === 'A' ? shape[1] : lora.r
          const step = Math.max(1, Math.floor(blockBytes / (width * dtypeBytes[dtype])))
          for (let row = start; row < start + rows; row += step)
            await writer.write(
              peftTensor(module, matrix),
              await source.readRows(name, row, Math.min(row + step, start + rows)),
            )
        }
        await copy('A', 0, lora.r)
        for (const { shardRow, rows } of [...rectangles].sort((a, b) => a.row - b.row)) await copy('B', shardRow, rows)
      }
      await writer.finish()
    } catch (error) {
      await writer.close().catch(() => undefined)
      throw error
    }
    const config = peftConfigText({ ...lora, base: options.model, modules: suffixes(modules) })
    await writeWhole(join(folder, peftFiles.config), config)
  })
}

// As short as names layers of one target only: PEFT takes a module whose name ends so.
function suffixes(modules: readonly PeftModule[]): readonly string[] {
  const endings = (count: number) => modules.map(it => ({ ...it, end: it.module.split('.').slice(-count).join('.') }))
  const short = endings(1)
  const isPlain = ({ end, target }: (typeof short)[number]) => short.every(it => it.end !== end || it.target === target)
  const long = endings(2)
  return [...new Set(short.map((it, i) => (isPlain(it) ? it.end : long[i]!.end)))]
}

async function refuseTrained(
  source: TensorSource,
  options: WritePeftOptions & { base: NonNullable<WritePeftOptions['base']> },
): Promise<void> {
  const { architecture, signal } = options
  const { path, iteration } = options.base
  const base = await openMegatronCheckpoint(path, { architecture, iteration })
  try {
    for (const [name, { dtype, shape }] of source.tensors) {
      const there = base.tensors.get(name)
      if (/\.lora_[AB]\.weight$/.test(name) || there === undefined) continue
      const step = Math.max(1, Math.floor(blockBytes / ((shape[1] ?? 1) * dtypeBytes[dtype])))
      for (let row = 0; row < shape[0]!; row += step) {
        checkCancelled(signal, 'Comparing with the base')
        const end = Math.min(row + step, shape[0]!)
        const own = Buffer.from(await source.readRows(name, row, end))
        if (there.dtype === dtype && own.equals(await base.readRows(name, row, end))) continue
        throw new UnsupportedError(
          `'${name}' differs from that of the base ${path} in rows ${row} to ${end}: it was trained too.`,
          { hint: 'Merge the adapters (mergeLora) and convert the whole model.' },
        )
      }
    }
  } finally {
    await base.close()
  }
}
