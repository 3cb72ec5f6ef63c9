import { createHmac } from 'node:crypto'
import type { Credentials } from '../credentials.ts'

/** A request of OBS before it is signed. */
export interface UnsignedObsRequest {
  readonly method: string
  readonly bucket: string
  /** Empty for the bucket itself. */
  readonly key: string
  /** The part of the query that is signed with the resource: `uploads`, `partNumber`, `uploadId`. */
  readonly subresources: Readonly<Record<string, string | undefined>>
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
}

/**
 * The headers of `request` with date, token and `Authorization: OBS …` (HMAC-SHA1, "version 2").
 *
 * The moment is told in `x-obs-date`, because a client of `fetch` may not set `Date`.
 * Source: OBS API reference, "User Signature Authentication in Headers".
 */
export function signObs(request: UnsignedObsRequest, credentials: Credentials, at: Date): Record<string, string> {
  const { method, bucket, key, subresources } = request
  const { ak, sk, securityToken } = credentials
  const headers: Record<string, string> = {
    ...request.headers,
    'x-obs-date': at.toUTCString(),
    ...(securityToken ? { 'x-obs-security-token': securityToken } : {}),
  }
  const canonicalHeaders = Object.keys(headers)
    .filter(name => name.startsWith('x-obs-'))
    .sort()
    .map(name => `${name}:${headers[name]?.trim()}\n`)
    .join('')
  const toSign = [
    method,
    headers['content-md5'] ?? '',
    headers['content-type'] ?? '',
    '',
    canonicalHeaders + canonicalResource({ bucket, key, subresources }),
  ].join('\n')
  const signature = createHmac('sha1', sk).update(toSign, 'utf8').digest('base64')
  return { ...headers, authorization: `OBS ${ak}:${signature}` }
}

function canonicalResource({ bucket, key, subresources }: Omit<UnsignedObsRequest, 'method' | 'headers'>): string {
  const query = Object.keys(subresources)
    .sort()
    .map(name => (subresources[name] === undefined ? name : `${name}=${subresources[name]}`))
    .join('&')
  return `/${bucket}/${encodeKey(key)}${query ? `?${query}` : ''}`
}

/** An object's key as it stands in an address: everything encoded but the slashes between its parts. */
export function encodeKey(key: string): string {
  return key
    .split('/')
    .map(part =>
      encodeURIComponent(part).replaceAll(/[!'()*]/g, sign => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`),
    )
    .join('/')
}
