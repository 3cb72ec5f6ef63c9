import { createHash, createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { signRequest } from '../../src/cloud/sign-request.ts'

const project = '0123456789abcdef0123456789abcdef'
const keys = { ak: 'AK', sk: 'example-secret-key-0001' }
const at = new Date('2026-01-01T00:00:00Z')
const host = 'https://modelarts.cn-southwest-2.myhuaweicloud.com'

/**
 * The first is the vector of Huawei's documentation; the others were computed by an implementation of the documented
 * algorithm that shares nothing with ours.
 */
const vectors = [
  {
    title: "the documentation's own request",
    keys: { ak: 'AK', sk: 'MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc' },
    at: new Date('2019-11-15T03:36:55Z'),
    method: 'GET',
    url: 'https://service.region.example.com/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs?limit=2&marker=13551d6b-755d-4757-b956-536f674975c0',
    headers: { 'content-type': 'application/json' },
    signed: 'content-type;host;x-sdk-date',
    signature: '7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe',
  },
  {
    title: 'a body with Chinese text, by temporary keys',
    keys: { ...keys, securityToken: 'TOKEN' },
    method: 'POST',
    url: `${host}/v2/${project}/training-jobs`,
    headers: { 'content-type': 'application/json', 'x-project-id': project },
    body: { kind: 'job', metadata: { name: 't1', description: '中文' } },
    signed: 'content-type;host;x-project-id;x-sdk-date;x-security-token',
    signature: 'b3dcc3fa1e5a8cab26690b9cbf4b0aa1934fc33d94786afb9908ff1cd1ab5c7a',
  },
  {
    title: 'a query with a space and a slash',
    method: 'GET',
    url: `${host}/v2/${project}/training-jobs/j-1/events?limit=100&offset=0&pattern=a%20b%2Fc`,
    headers: { 'x-project-id': project },
    signed: 'host;x-project-id;x-sdk-date',
    signature: '8e50006cb04e5c3713090f256e0aa5e2b0f95b52597c10116bada42e2ec135e9',
  },
  {
    title: 'a patch whose body is not signed',
    method: 'PATCH',
    url: `${host}/v1/${project}/networks/net-1`,
    headers: {
      'content-type': 'application/merge-patch+json',
      'x-project-id': project,
      'x-sdk-content-sha256': 'UNSIGNED-PAYLOAD',
    },
    body: {},
    signed: 'content-type;host;x-project-id;x-sdk-content-sha256;x-sdk-date',
    signature: '95544ce625573cbb36767b8904b8e7d24ef0511e265a37ee6b69ea96d43538f3',
  },
] as const

describe('signing', () => {
  it.each(vectors)('gives the known signature of $title', async vector => {
    const { method, url, headers, signed, signature } = vector
    const body = 'body' in vector ? vector.body : undefined
    const used: { readonly ak: string; readonly sk: string } = 'keys' in vector ? vector.keys : keys
    const got = await signRequest({ method, url: new URL(url), headers, body }, used, 'at' in vector ? vector.at : at)
    expect(got.authorization).toBe(`SDK-HMAC-SHA256 Access=AK, SignedHeaders=${signed}, Signature=${signature}`)
  })

  it('is of the empty body where there is none', async () => {
    const got = await signRequest({ method: 'GET', url: new URL(`${host}/v2/p`), headers: {} }, keys, at)
    const hash = (text: string) => createHash('sha256').update(text).digest('hex')
    const canonical = `GET\n/v2/p/\n\nhost:${new URL(host).host}\nx-sdk-date:20260101T000000Z\n\nhost;x-sdk-date\n${hash('')}`
    const toSign = `SDK-HMAC-SHA256\n20260101T000000Z\n${hash(canonical)}`
    expect(got.authorization).toContain(createHmac('sha256', keys.sk).update(toSign).digest('hex'))
  })
})
