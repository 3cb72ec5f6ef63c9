import { createHash } from 'node:crypto'
import { InputError, ServiceError } from '../../errors.ts'
import { type Credentials, type CredentialsSource, withCredentials } from '../credentials.ts'
import { type Endpoints, endpointOf } from '../endpoints.ts'
import { type Exchanged, exchange, type RepeatOptions, repeat } from '../exchange.ts'
import { encodeKey, signObs } from './sign-obs.ts'
import { textOf, textsOf } from './xml-text.ts'

export interface ObsOptions extends RepeatOptions {
  readonly region: string
  readonly credentials: CredentialsSource
  readonly endpoints?: Endpoints
  /** Longest time of one request, its answer included, in ms; default 120,000. */
  readonly timeoutMs?: number
}

/** Where an object is. */
export interface ObsPlace {
  readonly bucket: string
  readonly key: string
}

export interface ObsObject {
  readonly key: string
  /** Bytes. */
  readonly size: number
  /** MD5 of the content; of an object uploaded in parts, the MD5 of their MD5s, `-`, and their number. */
  readonly etag: string
}

export interface ObsPart {
  /** From 1 on. */
  readonly number: number
  readonly etag: string
  readonly size: number
}

/** Buckets and objects of OBS. Bodies are whole in memory: what is large goes in parts. */
export interface Obs {
  /** Region of a bucket; undefined when there is none. @throws ServiceError with status 403 for another account's. */
  bucketRegion(bucket: string, signal?: AbortSignal): Promise<string | undefined>
  /** Creates a bucket in the client's region; one that is ours already stays as it is. */
  createBucket(bucket: string, signal?: AbortSignal): Promise<void>
  /** Deletes a bucket, which must be empty; one that is gone is left alone. */
  removeBucket(bucket: string, signal?: AbortSignal): Promise<void>
  /** Objects whose keys begin with `prefix`, in the order of their keys, a thousand at a time. */
  list(bucket: string, prefix: string, signal?: AbortSignal): AsyncGenerator<ObsObject>
  /** Undefined when there is none. */
  head(place: ObsPlace, signal?: AbortSignal): Promise<ObsObject | undefined>
  /** Bytes `from` to `to` (exclusive) of an object that is still the one with `etag`. */
  read(place: ObsPlace, range: { from: number; to: number; etag: string }, signal?: AbortSignal): Promise<Buffer>
  /** Writes an object; OBS compares the MD5 of what it received. */
  put(place: ObsPlace, bytes: Uint8Array<ArrayBuffer>, signal?: AbortSignal): Promise<void>
  remove(place: ObsPlace, signal?: AbortSignal): Promise<void>
  /** Begins an upload in parts and gives its id. */
  startUpload(place: ObsPlace, signal?: AbortSignal): Promise<string>
  uploadPart(upload: ObsUpload, number: number, bytes: Uint8Array<ArrayBuffer>, signal?: AbortSignal): Promise<string>
  /** Parts that were received; undefined when there is no such upload any more. */
  parts(upload: ObsUpload, signal?: AbortSignal): Promise<readonly ObsPart[] | undefined>
  completeUpload(upload: ObsUpload, parts: readonly Omit<ObsPart, 'size'>[], signal?: AbortSignal): Promise<void>
  abortUpload(upload: ObsUpload, signal?: AbortSignal): Promise<void>
}

export interface ObsUpload extends ObsPlace {
  readonly uploadId: string
}

interface ObsRequest {
  readonly method: 'GET' | 'PUT' | 'POST' | 'HEAD' | 'DELETE'
  readonly bucket: string
  readonly key?: string
  readonly subresources?: Readonly<Record<string, string | undefined>>
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array<ArrayBuffer>
  readonly signal?: AbortSignal | undefined
  readonly isRepeatable?: boolean
}

/**
 * A small client of OBS, on signatures of version 2. Of our own because the SDK leaves certificates unchecked unless
 * told, repeats no request that failed with status 5xx, and forgets a large upload when a token expires.
 */
export function obs(options: ObsOptions): Obs {
  const { region, timeoutMs = 120_000 } = options
  endpointOf('obs', region, options.endpoints)

  const send = (wanted: ObsRequest): Promise<Exchanged> =>
    repeat(() => withCredentials(options.credentials, keys => attempt(wanted, keys)), {
      ...{ retries: options.retries, retryDelayMs: options.retryDelayMs, signal: wanted.signal },
      isRepeatable: wanted.isRepeatable ?? true,
    })

  async function attempt(wanted: ObsRequest, keys: Credentials): Promise<Exchanged> {
    const { method, bucket, key = '', subresources = {}, query = {}, body, signal } = wanted
    const url = addressOf(bucket, key)
    const all = { ...subresources, ...query }
    url.search = Object.entries(all)
      .map(([name, value]) => (value === undefined ? name : `${name}=${encodeURIComponent(value)}`))
      .join('&')
    const headers = {
      ...wanted.headers,
      ...(body ? { 'content-md5': createHash('md5').update(body).digest('base64') } : {}),
    }
    return exchange({
      ...{ service: 'obs', what: `obs ${method} ${bucket}/${key}`, method, url, body, keys, timeoutMs, signal },
      headers: signObs({ method, bucket, key, subresources, headers }, keys, new Date()),
    })
  }

  /** Buckets are part of the host's name, but for an address of one's own. */
  function addressOf(bucket: string, key: string): URL {
    if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket) || bucket.includes('..'))
      throw new InputError(`'${bucket}' is no name of a bucket.`, {
        hint: "Buckets have 3 to 63 lower-case letters, digits, '-' and '.'.",
      })
    const endpoint = endpointOf('obs', region, options.endpoints)
    if (options.endpoints?.obs !== undefined) return new URL(`/${bucket}/${encodeKey(key)}`, endpoint)
    return new URL(`/${encodeKey(key)}`, `${endpoint.protocol}//${bucket}.${endpoint.host}`)
  }

  return {
    async bucketRegion(bucket, signal) {
      const answer = await send({ method: 'HEAD', bucket, signal }).catch(orNone)
      return answer && (answer.headers.get('x-obs-bucket-location') ?? region)
    },

    async createBucket(bucket, signal) {
      const wanted = `<CreateBucketConfiguration><Location>${region}</Location></CreateBucketConfiguration>`
      const headers = { 'content-type': 'application/xml' }
      await send({ method: 'PUT', bucket, headers, body: Buffer.from(wanted), signal }).catch((error: unknown) => {
        if (!(error instanceof ServiceError && error.serviceCode === 'BucketAlreadyOwnedByYou')) throw error
      })
    },

    removeBucket: async (bucket, signal) => void (await send({ method: 'DELETE', bucket, signal }).catch(orNone)),

    async *list(bucket, prefix, signal) {
      for (let marker = ''; ; ) {
        const query = { prefix, 'max-keys': '1000', ...(marker ? { marker } : {}) }
        const xml = (await send({ method: 'GET', bucket, query, signal })).bytes.toString('utf8')
        for (const contents of textsOf(xml, 'Contents', { isMarkup: true })) {
          marker = textOf(contents, 'Key') ?? ''
          yield { key: marker, size: Number(textOf(contents, 'Size')), etag: unquote(textOf(contents, 'ETag')) }
        }
        if (textOf(xml, 'IsTruncated') !== 'true') return
        marker = textOf(xml, 'NextMarker') ?? marker
      }
    },

    async head({ bucket, key }, signal) {
      const answer = await send({ method: 'HEAD', bucket, key, signal }).catch(orNone)
      if (!answer) return undefined
      return { key, size: Number(answer.headers.get('content-length')), etag: unquote(answer.headers.get('etag')) }
    },

    async read({ bucket, key }, { from, to, etag }, signal) {
      const headers = { range: `bytes=${from}-${to - 1}`, 'if-match': `"${etag}"` }
      const { bytes } = await send({ method: 'GET', bucket, key, headers, signal })
      if (bytes.length === to - from) return bytes
      throw new ServiceError(`obs GET ${bucket}/${key}: ${to - from} bytes were asked for and ${bytes.length} came.`, {
        ...{ service: 'obs', retryable: true },
      })
    },

    put: async ({ bucket, key }, body, signal) => void (await send({ method: 'PUT', bucket, key, body, signal })),
    remove: async ({ bucket, key }, signal) => void (await send({ method: 'DELETE', bucket, key, signal })),

    async startUpload({ bucket, key }, signal) {
      // Begun twice is no harm: the first one stays without parts.
      const { bytes } = await send({ method: 'POST', bucket, key, subresources: { uploads: undefined }, signal })
      return textOf(bytes.toString('utf8'), 'UploadId') ?? ''
    },

    async uploadPart({ bucket, key, uploadId }, number, body, signal) {
      const subresources = { partNumber: String(number), uploadId }
      const { headers } = await send({ method: 'PUT', bucket, key, subresources, body, signal })
      return unquote(headers.get('etag'))
    },

    async parts({ bucket, key, uploadId }, signal) {
      const found: ObsPart[] = []
      for (let marker = ''; ; ) {
        const query = marker ? { 'part-number-marker': marker } : {}
        const answer = await send({ method: 'GET', bucket, key, subresources: { uploadId }, query, signal }).catch(
          orNone,
        )
        if (!answer) return undefined
        const xml = answer.bytes.toString('utf8')
        for (const part of textsOf(xml, 'Part', { isMarkup: true })) {
          const [number, size] = [Number(textOf(part, 'PartNumber')), Number(textOf(part, 'Size'))]
          found.push({ number, size, etag: unquote(textOf(part, 'ETag')) })
        }
        if (textOf(xml, 'IsTruncated') !== 'true') return found
        marker = textOf(xml, 'NextPartNumberMarker') ?? String(found.at(-1)?.number)
      }
    },

    async completeUpload(upload, parts, signal) {
      const { bucket, key, uploadId } = upload
      const listed = parts.map(
        ({ number, etag }) => `<Part><PartNumber>${number}</PartNumber><ETag>${etag}</ETag></Part>`,
      )
      const body = Buffer.from(`<CompleteMultipartUpload>${listed.join('')}</CompleteMultipartUpload>`)
      const headers = { 'content-type': 'application/xml' }
      await send({ method: 'POST', bucket, key, subresources: { uploadId }, headers, body, signal }).catch(
        async (error: unknown) => {
          // Completed by a request whose answer was lost, there is no such upload any more, but the object.
          if (orNone(error) === undefined && (await this.head(upload, signal))?.etag.endsWith(`-${parts.length}`))
            return
          throw error
        },
      )
    },

    abortUpload: async ({ bucket, key, uploadId }, signal) =>
      void (await send({ method: 'DELETE', bucket, key, subresources: { uploadId }, signal }).catch(orNone)),
  }
}

function orNone(error: unknown): undefined {
  if (error instanceof ServiceError && error.status === 404) return undefined
  throw error
}

function unquote(etag: string | null | undefined): string {
  return (etag ?? '').replaceAll('"', '')
}
