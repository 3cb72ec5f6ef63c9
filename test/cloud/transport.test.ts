import { describe, expect, it } from 'vitest'
import { createTransport } from '../../src/cloud/transport.ts'
import { ServiceError } from '../../src/errors.ts'
import { type Answer, answeringServer, json, reset, silent } from './answering-server.ts'

const keys = { ak: 'AKIDEXAMPLE', sk: 'very-secret-key', securityToken: 'very-secret-token' }

async function transportTo(...answers: readonly Answer[]) {
  const server = await answeringServer(...answers)
  const endpoints = { modelarts: server.url, iam: server.url, 'sfs-turbo': server.url }
  const options = { region: 'cn-southwest-2', credentials: keys, projectId: 'p1', endpoints, retryDelayMs: 1 }
  return { ...server, options, transport: createTransport(options) }
}

const get = { service: 'modelarts', method: 'GET', path: ['v2', 'p1', 'training-jobs', 'j1'] } as const
const post = {
  service: 'modelarts',
  method: 'POST',
  path: ['v2', 'p1', 'training-jobs'],
  body: { kind: 'job' },
} as const

async function failure(promise: Promise<unknown>): Promise<ServiceError> {
  const error = await promise.then(
    () => undefined,
    (error: unknown) => error,
  )
  expect(error).toBeInstanceOf(ServiceError)
  return error as ServiceError
}

describe('a request to the cloud', () => {
  it('is sent signed, with its token and project, and gives the parsed answer', async () => {
    const { transport, seen } = await transportTo(json(200, { total: 3 }))
    const answer = await transport.request({ ...get, query: { limit: 2, name: 'a b', left: undefined } })
    expect([answer.status, answer.body]).toEqual([200, { total: 3 }])
    expect(seen[0]?.path).toBe('/v2/p1/training-jobs/j1?limit=2&name=a%20b')
    expect(seen[0]?.headers).toMatchObject({ 'x-project-id': 'p1', 'x-security-token': keys.securityToken })
    expect(seen[0]?.headers.authorization).toMatch(/^SDK-HMAC-SHA256 Access=AKIDEXAMPLE, SignedHeaders=host;/)
  })

  it('gives no body for an empty answer', async () => {
    const { transport } = await transportTo(response => void response.writeHead(204).end())
    expect(await transport.request(get)).toMatchObject({ status: 204, body: undefined })
  })

  it.each([
    ['of ModelArts', { error_code: 'ModelArts.2775', error_msg: 'Not there.', error_solution: 'Look again.' }],
    ['of SFS Turbo', { errCode: 'ModelArts.2775', errMsg: 'Not there.' }],
    ['of the gateway, nested', { error: { code: 'ModelArts.2775', message: 'Not there.' }, request_id: 'r-1' }],
  ])('that is refused keeps code, message and request id, in the dialect %s', async (_, body) => {
    const { transport, seen } = await transportTo(json(400, body, { 'x-request-id': 'r-1' }))
    const error = await failure(transport.request(get))
    expect(error).toMatchObject({ status: 400, serviceCode: 'ModelArts.2775', requestId: 'r-1', retryable: false })
    expect(error.message).toContain(
      'modelarts GET /v2/p1/training-jobs/j1: 400 ModelArts.2775 Not there (request r-1).',
    )
    expect(seen.length).toBe(1)
  })

  it('says the words of a page that a proxy answers, without its markup', async () => {
    const page = '<html><style>b{}</style><h1>502 Bad Gateway</h1></html>'
    const { options, url } = await transportTo(response => void response.writeHead(502).end(page))
    const error = await failure(createTransport({ ...options, retries: 0 }).request(get))
    expect(error.message).toContain('502 502 Bad Gateway')
    expect(url).toContain('127.0.0.1')
  })

  it.each([
    ['a 500', json(500, { error_code: 'ModelArts.2950' })],
    ['a throttled answer', json(429, { error_code: 'ModelArts.2799' }, { 'retry-after': '0.01' })],
    ['a cut connection', reset],
  ])('is repeated after %s when that does no harm', async (_, bad) => {
    const { transport, seen } = await transportTo(bad, bad, json(200, { ok: true }))
    expect((await transport.request(get)).body).toEqual({ ok: true })
    expect(seen.length).toBe(3)
  })

  it('that creates something is not repeated when its answer was lost', async () => {
    const { transport, seen } = await transportTo(reset, json(201, {}))
    expect((await failure(transport.request(post))).retryable).toBe(true)
    expect(seen.length).toBe(1)
  })

  it('that creates something is repeated when it was throttled, since then nothing was created', async () => {
    const { transport, seen } = await transportTo(json(429, {}), json(201, { id: 1 }))
    expect((await transport.request(post)).body).toEqual({ id: 1 })
    expect(seen.map(({ body }) => body)).toEqual(['{"kind":"job"}', '{"kind":"job"}'])
  })

  it('ends when no answer comes in time', async () => {
    const { options } = await transportTo(silent)
    const error = await failure(createTransport({ ...options, timeoutMs: 30, retries: 0 }).request(get))
    expect(error.message).toContain('no answer within 30 ms')
  })

  it('ends at once with the reason of its signal', async () => {
    const { transport } = await transportTo(silent)
    const controller = new AbortController()
    const asked = transport.request({ ...get, signal: controller.signal })
    controller.abort(new Error('enough'))
    await expect(asked).rejects.toThrow('enough')
  })

  it('tells no secret when the gateway repeats what was signed', async () => {
    const canonical = `verify aksk signature fail, canonicalRequest:GET|/|x-security-token:${keys.securityToken}|${keys.sk}`
    const { transport } = await transportTo(json(401, { error_code: 'APIGW.0301', error_msg: canonical }))
    const error = await failure(transport.request(get))
    const told = `${error.stack}${JSON.stringify(error)}${String(error.cause)}`
    expect(told).toContain('APIGW.0301')
    expect(told).not.toContain(keys.securityToken)
    expect(told).not.toContain(keys.sk)
  })

  it('asks IAM once for the project of the region when none is named', async () => {
    const { options, seen } = await transportTo(json(200, { projects: [{ id: 'p9' }] }), json(200, {}))
    const { projectId: _, ...rest } = options
    const transport = createTransport(rest)
    await Promise.all([transport.projectId(), transport.projectId()])
    await transport.request(get)
    expect(seen.map(({ path }) => path)).toEqual(['/v3/projects?name=cn-southwest-2', '/v2/p1/training-jobs/j1'])
    expect(seen[1]?.headers['x-project-id']).toBe('p9')
  })

  it('refuses a part of a path that would lead elsewhere', async () => {
    const { transport, seen } = await transportTo(json(200, {}))
    for (const part of ['..', 'a/b', 'a?b', ''])
      await expect(transport.request({ ...get, path: ['v2', part] })).rejects.toThrow('cannot be part of an address')
    expect(seen).toEqual([])
  })

  it('refuses a region or an endpoint that is none before anything is asked', async () => {
    expect(() => createTransport({ region: 'CN North', credentials: keys })).toThrow(
      "'CN North' is no name of a region",
    )
    const endpoints = { modelarts: 'modelarts.example.com/v2' }
    expect(() => createTransport({ region: 'cn-north-4', credentials: keys, endpoints })).toThrow(
      'is not an address like',
    )
  })
})
