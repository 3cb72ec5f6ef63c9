import { createHash, createHmac, randomBytes } from 'node:crypto'
import type { DoubleAnswer, DoubleKeys, DoubleRequest } from './double-request.ts'

/** An object as it is kept, in memory. */
interface StoredObject {
  readonly bytes: Buffer
  readonly etag: string
}

interface Upload {
  readonly bucket: string
  readonly key: string
  readonly parts: Map<number, StoredObject>
}

export interface ObsDoubleOptions {
  readonly region: string
  readonly buckets: readonly string[]
  /** Buckets of other accounts. */
  readonly foreignBuckets: readonly string[]
}

/** Buckets, path style. */
export interface ObsRoutes {
  answer(request: DoubleRequest, keys: readonly DoubleKeys[], now: number): DoubleAnswer
  /** Content of an object; undefined when there is none. */
  content(bucket: string, key: string): Buffer | undefined
  put(bucket: string, key: string, bytes: Buffer): void
  readonly buckets: readonly string[]
}

const md5 = (bytes: Buffer) => createHash('md5').update(bytes)
const subresourceNames = ['uploads', 'uploadId', 'partNumber']

/** A double of OBS: signatures of version 2 verified by an implementation of its own, objects, lists, uploads in parts. */
export function obsRoutes({ region, ...names }: ObsDoubleOptions): ObsRoutes {
  const buckets = new Map(names.buckets.map(name => [name, new Map<string, StoredObject>()]))
  const uploads = new Map<string, Upload>()
  const store = (bytes: Buffer): StoredObject => ({ bytes, etag: md5(bytes).digest('hex') })

  function ofBucket(bucket: string, { method, bytes }: DoubleRequest): DoubleAnswer {
    const objects = buckets.get(bucket)
    const isForeign = names.foreignBuckets.includes(bucket)
    if (method === 'PUT') {
      if (isForeign) return no(409, 'BucketAlreadyExists')
      if (objects) return no(409, 'BucketAlreadyOwnedByYou')
      if (!bytes.toString('utf8').includes(`<Location>${region}</Location>`))
        return no(400, 'InvalidLocationConstraint')
      buckets.set(bucket, new Map())
      return { status: 200 }
    }
    if (isForeign) return no(403, 'AccessDenied')
    if (!objects) return no(404, 'NoSuchBucket')
    if (method === 'HEAD') return { status: 200, headers: { 'x-obs-bucket-location': region } }
    if (method !== 'DELETE') return no(405, 'MethodNotAllowed')
    if (objects.size > 0) return no(409, 'BucketNotEmpty')
    buckets.delete(bucket)
    return { status: 204 }
  }

  function list(objects: ReadonlyMap<string, StoredObject>, { searchParams }: URL): DoubleAnswer {
    const [prefix, marker] = [searchParams.get('prefix') ?? '', searchParams.get('marker') ?? '']
    const most = Math.min(1000, Number(searchParams.get('max-keys') ?? 1000))
    const keys = [...objects.keys()].filter(key => key.startsWith(prefix) && key > marker).sort()
    const contents = keys.slice(0, most).map(key => {
      const { bytes, etag } = objects.get(key)!
      return `<Contents><Key>${escaped(key)}</Key><ETag>"${etag}"</ETag><Size>${bytes.length}</Size></Contents>`
    })
    const isTruncated = keys.length > most
    return xml(
      `<ListBucketResult><IsTruncated>${isTruncated}</IsTruncated>${contents.join('')}${isTruncated ? `<NextMarker>${escaped(keys[most - 1]!)}</NextMarker>` : ''}</ListBucketResult>`,
    )
  }

  function get({ bytes, etag }: StoredObject, { headers }: DoubleRequest): DoubleAnswer {
    const wanted = headers['if-match']
    if (wanted !== undefined && wanted !== `"${etag}"`) return no(412, 'PreconditionFailed')
    const [, from, to] = /^bytes=(\d+)-(\d+)?$/.exec(headers.range ?? '') ?? []
    const sent = { 'content-type': 'application/octet-stream', etag: `"${etag}"` }
    if (from === undefined) return { status: 200, body: bytes, headers: sent }
    if (Number(from) >= bytes.length) return no(416, 'InvalidRange')
    return {
      status: 206,
      body: bytes.subarray(Number(from), to === undefined ? undefined : Number(to) + 1),
      headers: sent,
    }
  }

  function inParts(
    objects: Map<string, StoredObject>,
    key: string,
    bucket: string,
    request: DoubleRequest,
  ): DoubleAnswer {
    const { method, url, bytes } = request
    if (url.searchParams.has('uploads')) {
      const uploadId = randomBytes(8).toString('hex')
      uploads.set(uploadId, { bucket, key, parts: new Map() })
      return xml(`<InitiateMultipartUploadResult><UploadId>${uploadId}</UploadId></InitiateMultipartUploadResult>`)
    }
    const uploadId = url.searchParams.get('uploadId') ?? ''
    const upload = uploads.get(uploadId)
    if (!upload || upload.key !== key || upload.bucket !== bucket) return no(404, 'NoSuchUpload')
    if (method === 'PUT') {
      const part = store(bytes)
      upload.parts.set(Number(url.searchParams.get('partNumber')), part)
      return { status: 200, headers: { etag: `"${part.etag}"` } }
    }
    const parts = [...upload.parts].sort(([a], [b]) => a - b)
    if (method === 'GET') {
      const listed = parts.map(
        ([number, part]) =>
          `<Part><PartNumber>${number}</PartNumber><ETag>"${part.etag}"</ETag><Size>${part.bytes.length}</Size></Part>`,
      )
      return xml(`<ListPartsResult><IsTruncated>false</IsTruncated>${listed.join('')}</ListPartsResult>`)
    }
    uploads.delete(uploadId)
    if (method === 'DELETE') return { status: 204 }
    const named = [...bytes.toString('utf8').matchAll(/<PartNumber>(\d+)<\/PartNumber><ETag>([0-9a-f]+)<\/ETag>/g)]
    const isWhole =
      named.length === parts.length &&
      named.every(([, number, etag], at) => Number(number) === parts[at]?.[0] && etag === parts[at]?.[1].etag)
    if (!isWhole) return no(400, 'InvalidPart')
    const hash = createHash('md5')
    for (const [, part] of parts) hash.update(Buffer.from(part.etag, 'hex'))
    const etag = `${hash.digest('hex')}-${parts.length}`
    objects.set(key, { bytes: Buffer.concat(parts.map(([, part]) => part.bytes)), etag })
    return xml(`<CompleteMultipartUploadResult><ETag>"${etag}"</ETag></CompleteMultipartUploadResult>`)
  }

  return {
    answer(request, keys, now) {
      const { method, url, bytes, headers } = request
      const [bucket = '', ...rest] = url.pathname.split('/').slice(1)
      const key = rest.map(decodeURIComponent).join('/')
      const refused = verify(request, keys, now)
      if (refused) return no(403, refused)
      const objects = buckets.get(bucket)
      if (key === '' && method !== 'GET') return ofBucket(bucket, request)
      if (!objects) return no(404, 'NoSuchBucket')
      const sum = headers['content-md5']
      if (sum !== undefined && sum !== md5(bytes).digest('base64')) return no(400, 'BadDigest')
      if (key === '') return list(objects, url)
      if (subresourceNames.some(name => url.searchParams.has(name))) return inParts(objects, key, bucket, request)
      if (method === 'PUT') {
        const object = store(bytes)
        objects.set(key, object)
        return { status: 200, headers: { etag: `"${object.etag}"` } }
      }
      if (method === 'DELETE') {
        objects.delete(key)
        return { status: 204 }
      }
      const object = objects.get(key)
      if (!object) return no(404, 'NoSuchKey')
      const length = { 'content-length': String(object.bytes.length), etag: `"${object.etag}"` }
      return method === 'HEAD' ? { status: 200, headers: length } : get(object, request)
    },
    content: (bucket, key) => buckets.get(bucket)?.get(key)?.bytes,
    put: (bucket, key, bytes) => void buckets.get(bucket)?.set(key, store(bytes)),
    get buckets() {
      return [...buckets.keys()]
    },
  }
}

/** The code of the refusal of a request that is not signed rightly. Source: OBS API reference, header signatures. */
function verify({ method, url, headers }: DoubleRequest, keys: readonly DoubleKeys[], now: number): string | undefined {
  const [, ak, signature] = /^OBS ([^:]+):(.+)$/.exec(headers.authorization ?? '') ?? []
  const known = keys.find(key => key.ak === ak)
  if (!known) return 'InvalidAccessKeyId'
  if (!(Math.abs(Date.parse(headers['x-obs-date'] ?? '') - now) < 15 * 60_000)) return 'RequestTimeTooSkewed'
  if (headers['x-obs-security-token'] !== known.securityToken) return 'InvalidSecurityToken'
  if (known.expiresAt !== undefined && now > known.expiresAt) return 'ExpiredToken'
  const own = Object.keys(headers).filter(name => name.startsWith('x-obs-'))
  const resources = [...url.searchParams]
    .filter(([name]) => subresourceNames.includes(name))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => (value === '' ? name : `${name}=${value}`))
  const query = resources.length > 0 ? `?${resources.join('&')}` : ''
  const lines = [method, headers['content-md5'] ?? '', headers['content-type'] ?? '', '']
  const signed = `${lines.join('\n')}\n${own
    .sort()
    .map(name => `${name}:${headers[name]}\n`)
    .join('')}${url.pathname}${query}`
  return createHmac('sha1', known.sk).update(signed).digest('base64') === signature
    ? undefined
    : 'SignatureDoesNotMatch'
}

function no(status: number, code: string): DoubleAnswer {
  return { ...xml(`<Error><Code>${code}</Code><Message>${code}.</Message></Error>`), status }
}

function xml(text: string): DoubleAnswer {
  return { status: 200, headers: { 'content-type': 'application/xml' }, body: Buffer.from(text) }
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
