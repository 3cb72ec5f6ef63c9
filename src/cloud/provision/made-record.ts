import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { FormatError } from '../../errors.ts'
import type { Obs } from '../obs/obs.ts'

/** What `provision` can make. */
export type MadeKind = 'authorization' | 'bucket' | 'folder' | 'share' | 'link' | 'target' | 'image' | 'notebook'

const Made = z.object({
  kind: z.enum(['authorization', 'bucket', 'folder', 'share', 'link', 'target', 'image', 'notebook']),
  name: z.string(),
  /** The service's id. Absent as long as its creation was not answered. */
  id: z.string().optional(),
  /** Of links and targets: the share's id; of links also the network's. */
  shareId: z.string().optional(),
  networkId: z.string().optional(),
})
export type Made = z.output<typeof Made>

const Content = z.object({ version: z.literal(1), made: z.array(Made) })

/** Key of the record in its bucket. */
export const recordKey = '.ascendflow/provisioned.json'

/**
 * What was made for a bucket, as an object in it: the evidence by which things are taken away again. A thing is noted
 * before it is created, and its id after it.
 */
export interface MadeRecord {
  readonly made: readonly Made[]
  find(kind: MadeKind, name: string): Made | undefined
  /** Notes a thing, in place of what was noted of it. */
  note(made: Made, signal?: AbortSignal): Promise<void>
  /** Forgets a thing; with the last one, the record goes. */
  forget(made: Made, signal?: AbortSignal): Promise<void>
}

/** The record of a bucket that exists, empty when there is none. @throws FormatError for one that is not understood. */
export async function readMadeRecord(obs: Obs, bucket: string, signal?: AbortSignal): Promise<MadeRecord> {
  const place = { bucket, key: recordKey }
  let made = await readMade()

  async function readMade(): Promise<readonly Made[]> {
    const found = await obs.head(place, signal)
    if (!found) return []
    const bytes =
      found.size === 0 ? Buffer.alloc(0) : await obs.read(place, { from: 0, to: found.size, etag: found.etag }, signal)
    const parsed = Content.safeParse(parse(bytes))
    if (parsed.success) return parsed.data.made
    throw new FormatError({
      ...{ file: `obs://${bucket}/${recordKey}`, expected: 'the record of provision, version 1', cause: parsed.error },
      ...{ found: 'something else', hint: 'Was it written by a later version?' },
    })
  }

  async function write(next: readonly Made[], signal?: AbortSignal) {
    const text = JSON.stringify({ version: 1, made: next }, null, 2)
    if (next.length === 0) await obs.remove(place, signal)
    else await obs.put(place, Buffer.from(text), signal)
    made = next
  }

  const isOther = (one: Made) => (other: Made) => other.kind !== one.kind || other.name !== one.name
  return {
    get made() {
      return made
    },
    find: (kind, name) => made.find(each => each.kind === kind && each.name === name),
    note: async (one, signal) => {
      if (made.some(each => isDeepStrictEqual(each, one))) return
      await write([...made.filter(isOther(one)), one], signal)
    },
    forget: (one, signal) => write(made.filter(isOther(one)), signal),
  }
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    return undefined
  }
}
