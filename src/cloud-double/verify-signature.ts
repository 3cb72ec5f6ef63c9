import { createHash, createHmac } from 'node:crypto'
import type { DoubleKeys, DoubleRequest } from './double-request.ts'
import { Refusal } from './refusal.ts'

const longestSkewMs = 15 * 60_000

/**
 * Refuses a request whose signature is not right, as the gateway does: an implementation of the documented algorithm
 * that shares nothing with the one that signs.
 */
export function verifySignature(request: DoubleRequest, keys: readonly DoubleKeys[], now: number): void {
  const form = /^SDK-HMAC-SHA256 Access=([^,\s]+), SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$/
  const [, ak, list = '', signature] = form.exec(request.headers.authorization ?? '') ?? []
  if (ak === undefined) refuse('Incorrect IAM authentication information: Authorization is absent or of another form')
  const known = keys.find(key => key.ak === ak)
  if (!known) refuse('Incorrect IAM authentication information: no such access key')
  const signed = list.split(';')
  if (!signed.includes('host') || !signed.includes('x-sdk-date')) refuse('host and x-sdk-date must be signed')
  for (const name of signed) if (request.headers[name] === undefined) refuse(`signed header ${name} is absent`)

  const date = request.headers['x-sdk-date'] ?? ''
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date) ?? []
  const at = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
  if (!(Math.abs(at - now) <= longestSkewMs)) refuse('signature expired')
  if (known?.securityToken !== undefined) {
    if (request.headers['x-security-token'] !== known.securityToken) refuse('the security token is absent or wrong')
    if (!signed.includes('x-security-token')) refuse('x-security-token must be signed')
    if (known.expiresAt !== undefined && now > known.expiresAt) refuse('the security token has expired')
  }

  const canonical = [
    request.method,
    canonicalPath(request.url.pathname),
    canonicalQuery(request.url),
    ...signed.map(name => `${name}:${request.headers[name]?.trim()}`),
    '',
    signed.join(';'),
    request.headers['x-sdk-content-sha256'] ?? createHash('sha256').update(request.bytes).digest('hex'),
  ].join('\n')
  const toSign = `SDK-HMAC-SHA256\n${date}\n${createHash('sha256').update(canonical).digest('hex')}`
  if (
    createHmac('sha256', known?.sk ?? '')
      .update(toSign)
      .digest('hex') !== signature
  )
    refuse(
      `Incorrect IAM authentication information: verify aksk signature fail, canonicalRequest:${canonical.replaceAll('\n', '|')}`,
    )
}

function refuse(message: string): never {
  throw new Refusal(401, 'APIGW.0301', message)
}

const encode = (text: string) =>
  encodeURIComponent(text).replaceAll(/[!'()*]/g, sign => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`)

function canonicalPath(path: string): string {
  const encoded = path
    .split('/')
    .map(part => encode(decodeURIComponent(part)))
    .join('/')
  return encoded.endsWith('/') ? encoded : `${encoded}/`
}

function canonicalQuery(url: URL): string {
  return [...url.searchParams]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&')
}
