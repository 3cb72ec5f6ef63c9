import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { openSafetensorsFolder } from '../formats/safetensors-folder.ts'
import type { TensorSource } from '../formats/tensor.ts'
import type { Finding } from './finding.ts'
import { damage } from './iteration-check.ts'
import { readManifest } from './manifest.ts'
import { openHfModel } from './open-hf-model.ts'

const again = 'Download or convert the model again.'

/** What is wrong with a Hugging Face folder, from `config.json`, the index and headers. */
export async function checkHfFolder(dir: string): Promise<readonly Finding[]> {
  const findings: Finding[] = await checkNames(dir)
  let source: TensorSource
  try {
    source = await openSafetensorsFolder(dir)
  } catch (error) {
    return [...findings, damage(error, { path: dir, code: 'file-damaged' })]
  }
  try {
    const vouched = await checkManifest(dir, source)
    findings.push(...(vouched ?? []))
    // What agrees with its manifest has the types that the conversion was to store.
    if (vouched?.length !== 0) findings.push(...(await checkStoredType(dir, source)))
  } finally {
    await source.close()
  }
  try {
    await (await openHfModel(dir)).close()
  } catch (error) {
    findings.push(damage(error, { path: dir, code: 'weights-wrong' }))
  }
  return findings
}

// Weights that no reader takes, or that two readers take differently.
async function checkNames(dir: string): Promise<Finding[]> {
  const names = await readdir(dir)
  const shards = names.filter(name => /^model-\d{5}-of-\d{5}\.safetensors$/.test(name))
  const index = names.includes('model.safetensors.index.json')
  const stale = names.includes('model.safetensors')
    ? [...shards, ...(index ? ['model.safetensors.index.json'] : [])]
    : shards.filter(
        name => Number(name.slice(6, 11)) > Number(name.slice(15, 20)) || name.slice(15) !== shards[0]!.slice(15),
      )
  const foreign = [...stale, ...names.filter(name => /^(iter_\d+|mp_rank_.*)$/.test(name))]
  return foreign.map(name => ({
    ...{ code: 'foreign-file', severity: 'warning', path: join(dir, name), found: name },
    advice: 'It may be left from an earlier model: move it away, or write the model into a new folder.',
  }))
}

async function checkStoredType(dir: string, source: TensorSource): Promise<readonly Finding[]> {
  const types = new Map<string, string>()
  for (const { dtype, name } of source.tensors.values()) if (!/inv_freq$/.test(name)) types.set(dtype, name)
  const advice = 'Convert the model with the dtype to store.'
  const path = join(dir, 'config.json')
  const findings: Finding[] = []
  if (types.size > 1) {
    const [[a, first], [b, other]] = [...types] as [[string, string], [string, string]]
    findings.push({
      ...{ code: 'dtype-mixed', severity: 'warning', path: dir, advice },
      ...{ expected: `one type for all tensors ('${first}' is ${a})`, found: `${b} in '${other}'` },
    })
  }
  const size = await stat(path).then(
    it => it.size,
    () => 0,
  )
  if (size === 0 || size > 2 ** 20) return findings
  const config = await readFile(path, 'utf8')
    .then(JSON.parse)
    .catch(() => undefined)
  const stated = { bfloat16: 'BF16', float16: 'F16', float32: 'F32' }[String(config?.torch_dtype ?? config?.dtype)]
  if (stated !== undefined && types.size > 0 && !types.has(stated))
    findings.push({
      ...{ code: 'dtype-mixed', severity: 'warning', path, advice },
      ...{ expected: `weights in ${stated}, as config.json says`, found: [...types.keys()].join(', ') },
    })
  return findings
}

// Undefined when there is no manifest.
async function checkManifest(dir: string, source: TensorSource): Promise<readonly Finding[] | undefined> {
  const manifest = await readManifest(dir).catch((error: unknown) => damage(error, { path: dir, code: 'file-damaged' }))
  if (manifest === undefined) return undefined
  if ('code' in manifest) return [manifest]
  const findings: Finding[] = []
  const differs = (path: string, tensor: string | undefined, expected: string, found: string): void => {
    findings.push({ code: 'manifest-differs', severity: 'error', path, tensor, expected, found, advice: again })
  }
  for (const { file, byteLength, tensors } of manifest.files) {
    const path = join(dir, file)
    const size = await stat(path).then(
      it => it.size,
      () => undefined,
    )
    if (size !== byteLength)
      differs(path, undefined, `${byteLength} bytes, as the manifest says`, `${size ?? 'no file'}`)
    for (const { name, dtype, shape } of tensors) {
      const held = source.tensors.get(name)
      const found = held === undefined ? 'none' : `${held.dtype} [${held.shape}]`
      if (found !== `${dtype} [${shape}]`)
        differs(path, name, `'${name}' ${dtype} [${shape}], as the manifest says`, found)
    }
  }
  return findings
}
