import { join } from 'node:path'
import { z } from 'zod'
import { type ObsOptions, obs } from '../cloud/obs/obs.ts'
import { downloadFolder, parseObsUrl, uploadFolder } from '../cloud/obs/sync.ts'
import { defineArtifact } from '../flow/artifact.ts'
import { defineStep, type Step } from '../flow/step.ts'

/** A folder of this machine. */
export interface Folder {
  readonly kind: 'folder'
  readonly path: string
  readonly files: number
  readonly bytes: number
}

export const Folder: z.ZodType<Folder, Folder> = defineArtifact<Folder>('folder', {
  files: z.number().int(),
  bytes: z.number(),
})

const obsUrl = z.string().regex(/^obs:\/\/[^/]+(\/.*)?$/, "an address like 'obs://bucket/folder/'")

const fromInput = z.object({
  /** Where the files are: `obs://bucket/folder/`. */
  from: obsUrl,
  /**
   * Stands for the content of the bucket, which is not looked at to tell whether this was done before: give it another
   * value, a date for example, when there are other files.
   */
  asOf: z.string().optional(),
})

const toInput = z.object({
  /** Folder to send, for example the `path` of a model. */
  path: z.string(),
  to: obsUrl,
})

const Sent = z.object({ url: z.string(), files: z.number().int(), bytes: z.number() })

export interface ObsSync {
  /** Brings a folder of a bucket here. A killed one goes on at the part where it was; the same content stays. */
  readonly syncFromObs: Step<z.input<typeof fromInput>, Folder>
  /** Puts a folder into a bucket. A killed one goes on at the part where it was; the same content is not sent again. */
  readonly syncToObs: Step<z.input<typeof toInput>, z.output<typeof Sent>>
}

/**
 * The two steps that copy between OBS and this machine, with credentials that stand in no key and no record.
 *
 * Uploads are of parts of 16 MiB with MD5s that OBS compares; downloads are compared with the MD5 of the object.
 */
export function obsSync(options: ObsOptions): ObsSync {
  const client = obs(options)
  return {
    syncFromObs: defineStep({
      ...{ name: 'syncFromObs', version: 1, input: fromInput, output: Folder },
      summarize: sizeOf,
    }).run(async ({ from }, { workDir, signal, progress }) => {
      const path = join(workDir, 'files')
      const notes = join(workDir, 'notes')
      const { files, bytes } = await downloadFolder(client, parseObsUrl(from), path, {
        notes,
        signal,
        onProgress: progress,
      })
      return { kind: 'folder', path, files, bytes }
    }),
    syncToObs: defineStep({
      ...{ name: 'syncToObs', version: 1, input: toInput, output: Sent },
      summarize: sent => [...sizeOf(sent), sent.url],
    }).run(async ({ path, to }, { workDir, signal, progress }) => {
      const notes = join(workDir, 'notes')
      const { files, bytes } = await uploadFolder(client, path, parseObsUrl(to), {
        notes,
        signal,
        onProgress: progress,
      })
      return { url: to, files, bytes }
    }),
  }
}

const sizeOf = ({ files, bytes }: { readonly files: number; readonly bytes: number }): readonly string[] => [
  `${files} file${files === 1 ? '' : 's'}`,
  `${(bytes / 1e6).toFixed(1)} MB`,
]
