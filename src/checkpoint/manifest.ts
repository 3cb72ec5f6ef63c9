import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { FormatError } from '../errors.ts'
import { type Flushing, writeWhole } from '../formats/atomic-file.ts'
import { type Dtype, dtypeBytes } from '../formats/tensor.ts'

/** One tensor of a written file. */
export interface ManifestTensor {
  /** As the file names it; in Megatron shards `model.` or `model0.` before the path of keys below it. */
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** CRC-32 of its row-major little-endian bytes, eight hexadecimal digits. */
  readonly crc32: string
}

/** What one written file holds; made where the file is written, so that files may be written in any order. */
export interface ManifestFile {
  /** Path below the manifest's folder, with `/`. */
  readonly file: string
  readonly byteLength: number
  readonly tensors: readonly ManifestTensor[]
}

/** What a conversion was to do: facts as JSON, compared field by field. */
export type ConversionPlan = { readonly [field: string]: PlanValue }
export type PlanValue = string | number | boolean | null | readonly PlanValue[] | ConversionPlan

/** What a conversion did, written into its folder after everything else. */
export interface Manifest {
  readonly format: 1
  readonly plan: ConversionPlan
  readonly files: readonly ManifestFile[]
}

/** Name of the manifest: in a Hugging Face folder, or in the folder of one iteration. */
export const manifestName = 'ascendflow-manifest.json'

/** Some 200 bytes a tensor: 16 MiB are enough for the shards of any model. */
const maxManifestBytes = 16 * 2 ** 20

export const PlanValue: z.ZodType<PlanValue> = z.lazy(() =>
  z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(PlanValue), z.record(z.string(), PlanValue)]),
)

export const ManifestFile: z.ZodType<ManifestFile> = z.object({
  file: z.string().regex(/^(?!.*\.\.)[\w.-]+(\/[\w.-]+)*$/),
  byteLength: z.int().nonnegative(),
  tensors: z.array(
    z.object({
      name: z.string(),
      dtype: z.enum(Object.keys(dtypeBytes) as [Dtype, ...Dtype[]]),
      shape: z.array(z.int().nonnegative()),
      crc32: z.string().regex(/^[0-9a-f]{8}$/),
    }),
  ),
})

const Manifest: z.ZodType<Manifest> = z.object({
  format: z.literal(1),
  plan: z.record(z.string(), PlanValue),
  files: z.array(ManifestFile),
})

/** Writes the manifest of `dir`; the same plan and tensors give the same bytes. Files go in the order of their names. */
export async function writeManifest(
  dir: string,
  manifest: { plan: ConversionPlan; files: readonly ManifestFile[] },
  options: Flushing = {},
): Promise<void> {
  const files = [...manifest.files].sort((a, b) => (a.file < b.file ? -1 : 1))
  const lines = files.map(({ file, byteLength, tensors }) => {
    const rows = tensors.map(tensor => `    ${JSON.stringify(tensor)}`).join(',\n')
    return `  {"file":${JSON.stringify(file)},"byteLength":${byteLength},"tensors":[\n${rows}]}`
  })
  const plan = JSON.stringify(manifest.plan, null, 2)
  await writeWhole(join(dir, manifestName), `{"format":1,"plan":${plan},"files":[\n${lines.join(',\n')}]}\n`, options)
}

/**
 * The manifest of `dir`, or undefined when it has none.
 * @throws FormatError when it cannot be read as one.
 */
export async function readManifest(dir: string): Promise<Manifest | undefined> {
  const file = join(dir, manifestName)
  const found = await stat(file).catch(() => undefined)
  if (found === undefined) return undefined
  if (!found.isFile() || found.size > maxManifestBytes)
    throw new FormatError({ file, expected: `a file of at most ${maxManifestBytes} bytes`, found: `${found.size}` })
  let json: unknown
  try {
    json = JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    throw new FormatError({ file, expected: 'JSON', found: (cause as Error).message, cause })
  }
  const parsed = Manifest.safeParse(json)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  throw new FormatError({
    file,
    expected: 'the manifest of a conversion',
    found: `${issue.path.join('.')}: ${issue.message}`,
    cause: parsed.error,
  })
}

/** The fields in which two plans differ, each as `tp: 2 there, 4 here`. */
export function planDifferences(there: ConversionPlan, here: ConversionPlan): readonly string[] {
  const [a, b] = [flatten(there), flatten(here)]
  return [...new Set([...a.keys(), ...b.keys()])]
    .filter(field => a.get(field) !== b.get(field))
    .map(field => `${field}: ${a.get(field) ?? 'absent'} there, ${b.get(field) ?? 'absent'} here`)
}

function flatten(plan: ConversionPlan): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(plan).flatMap(([field, value]): [string, string][] =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? [...flatten(value as ConversionPlan)].map(([below, text]) => [`${field}.${below}`, text])
        : [[field, Array.isArray(value) ? JSON.stringify(value) : String(value)]],
    ),
  )
}

/** A CRC-32 as manifests write it. */
export function crcText(crc: number): string {
  return crc.toString(16).padStart(8, '0')
}

/** What is stored for one tensor of a manifest. */
export function manifestTensor(
  tensor: { readonly name: string; readonly dtype: Dtype; readonly shape: readonly number[] },
  crc: number,
): ManifestTensor {
  const { name, dtype, shape } = tensor
  return { name, dtype, shape, crc32: crcText(crc) }
}

/** A record without the fields that are undefined, as JSON would keep it. */
export function planOf(facts: object): ConversionPlan {
  return JSON.parse(JSON.stringify(facts)) as ConversionPlan
}
