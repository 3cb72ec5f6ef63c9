import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { FormatError } from '../errors.ts'
import { dictEntries, type PickleTensor } from '../formats/pickle-value.ts'
import type { RowReader } from '../formats/row-reader.ts'
import { openSafetensorsFolder } from '../formats/safetensors-folder.ts'
import type { TensorInfo, TensorSource } from '../formats/tensor.ts'
import { openTorchFile, type TorchFile } from '../formats/torch-file.ts'

const safetensors = /^model(-\d+-of-\d+)?\.safetensors$/
const torchFiles = /^pytorch_model(?:-(\d+)-of-(\d+))?\.bin$/

/** Tensors that some families store beside their weights: made from the configuration, and not trained. */
const constant = /(^|\.)(rotary_emb|rotary_pos_emb)\.inv_freq$/

/** True for a stored tensor that is no weight: `rotary_emb.inv_freq`, which training does not know. */
export function isConstant(name: string): boolean {
  return constant.test(name)
}

/**
 * Opens all tensors of a Hugging Face folder: safetensors where there are any, else `pytorch_model*.bin`, which
 * Baichuan2 is published as. Reads headers and pickles only; nothing in them is executed.
 *
 * @throws FormatError when there are no weights, when a file of several is missing, or a tensor is there twice.
 */
export async function openHfWeights(dir: string): Promise<TensorSource> {
  const names = await readdir(dir).catch(() => [])
  const files = names.filter(name => torchFiles.test(name)).sort()
  if (names.some(name => safetensors.test(name)) || files.length === 0) return openSafetensorsFolder(dir)
  const count = Number(torchFiles.exec(files[0]!)![2] ?? 1)
  if (files.length !== count || files.some((name, i) => Number(torchFiles.exec(name)![1] ?? 1) !== i + 1)) {
    const expected = `${count} files pytorch_model-*.bin, as ${files[0]} says`
    throw new FormatError({ file: dir, expected, found: files.join(', ') })
  }
  return openTorchFiles(files.map(name => join(dir, name)))
}

/**
 * The constants in a Hugging Face folder (see `isConstant`), or undefined when it has none or no weights at all: what
 * a model that comes back from Megatron takes over from the one that it is like.
 */
export async function openHfConstants(dir: string): Promise<TensorSource | undefined> {
  const names = await readdir(dir).catch(() => [])
  if (!names.some(name => safetensors.test(name) || torchFiles.test(name))) return undefined
  const source = await openHfWeights(dir)
  const tensors = new Map([...source.tensors].filter(([name]) => isConstant(name)))
  if (tensors.size > 0) return { ...source, tensors }
  await source.close()
  return undefined
}

async function openTorchFiles(paths: readonly string[]): Promise<TensorSource> {
  const files: TorchFile[] = []
  const close = async (): Promise<void> => {
    for (const file of files) await file.close()
  }
  const tensors = new Map<string, TensorInfo>()
  const homes = new Map<string, { file: TorchFile; tensor: PickleTensor }>()
  try {
    for (const path of paths) {
      const file = await openTorchFile(path)
      files.push(file)
      for (const [name, tensor] of stateDict(file)) {
        if (homes.has(name))
          throw new FormatError({ file: path, expected: 'every tensor once', found: `'${name}' twice` })
        homes.set(name, { file, tensor })
        tensors.set(name, { name, dtype: tensor.dtype, shape: tensor.shape })
      }
    }
  } catch (error) {
    await close()
    throw error
  }
  return {
    tensors,
    close,
    readRows: Object.assign(
      ((name, start, end, into) => {
        const { file, tensor } = homes.get(name)!
        return file.readRows(tensor, { start, end }, into)
      }) satisfies RowReader,
      {
        pieces: (name: string) => {
          const { file, tensor } = homes.get(name)!
          const [rows = 1, columns = 1] = tensor.shape
          return [{ place: file.place(tensor), row: 0, rows, column: 0, columns }]
        },
      },
    ),
  }
}

function* stateDict(file: TorchFile): Generator<[string, PickleTensor]> {
  const entries = dictEntries(file.value)
  if (entries === undefined)
    throw new FormatError({ file: file.path, expected: 'a state dict', found: 'something else' })
  for (const [name, value] of entries) {
    const isTensor = typeof value === 'object' && value !== null && 'type' in value && value.type === 'tensor'
    if (typeof name !== 'string' || !isTensor)
      throw new FormatError({ file: file.path, expected: 'tensors by name', found: `something else as '${name}'` })
    yield [name, value]
  }
}
