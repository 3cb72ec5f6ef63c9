import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type DoubleAnswer, type DoubleRequest, receive } from './double-request.ts'
import { Refusal } from './refusal.ts'

/**
 * What goes wrong with one request: `lost-answer` and `lost-answer-page` do what was asked before they fail (a cut
 * connection, a proxy's page with status 502), the others before anything is done.
 */
export type CloudFault =
  | 'lost-answer'
  | 'lost-answer-page'
  | 'reset'
  | 'throttled'
  | 'throttled-with-wait'
  | 'forbidden'
  | 'server-error'
  | 'bad-gateway'
  | 'slow-answer'

export type Route = (request: DoubleRequest) => Promise<DoubleAnswer> | DoubleAnswer

export interface LoopbackServer {
  readonly url: string
  close(): Promise<void>
}

/** Serves `route` on a free port of 127.0.0.1; `faultOf` is asked once for each request. */
export async function listenOnLoopback(
  route: Route,
  faultOf: (request: DoubleRequest) => CloudFault | undefined,
): Promise<LoopbackServer> {
  const server = createServer(async (incoming, response) => {
    const request = await receive(incoming).catch(() => undefined)
    if (!request) return void response.destroy()
    const fault = faultOf(request)
    if (fault === 'reset') return void response.destroy()
    if (fault && fault in failures) return send(response, failures[fault as keyof typeof failures])
    const result = await answered(() => route(request))
    if (fault === 'lost-answer') return void response.destroy()
    send(response, fault === 'lost-answer-page' ? failures['bad-gateway'] : result, { isSlow: fault === 'slow-answer' })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.closeAllConnections()
      await new Promise<void>(resolve => server.close(() => resolve()))
    },
  }
}

async function answered(route: () => Promise<DoubleAnswer> | DoubleAnswer): Promise<DoubleAnswer> {
  try {
    return await route()
  } catch (error) {
    if (error instanceof Refusal) return { status: error.status, body: error.body }
    return { status: 500, body: { error_code: 'ModelArts.2950', error_msg: String(error) } }
  }
}

function send(response: ServerResponse, { status, body, headers }: DoubleAnswer, { isSlow = false } = {}): void {
  if (body === undefined) return void response.writeHead(status, headers).end()
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body))
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length, ...headers })
  if (!isSlow) return void response.end(bytes)
  response.write(bytes.subarray(0, bytes.length >> 1))
  setTimeout(() => response.end(bytes.subarray(bytes.length >> 1)), 20)
}

const failures = {
  throttled: { status: 429, body: { error_code: 'ModelArts.2799', error_msg: 'Too many requests.' } },
  'throttled-with-wait': {
    ...{ status: 429, headers: { 'retry-after': '0.02' } },
    body: { error: { code: 'APIG.0308', message: 'Throttled.' } },
  },
  forbidden: { status: 403, body: { error_code: 'ModelArts.0112', error_msg: 'Insufficient permissions.' } },
  'server-error': { status: 500, body: { error_code: 'ModelArts.2950', error_msg: 'Internal error.' } },
  'bad-gateway': {
    ...{ status: 502, headers: { 'content-type': 'text/html' } },
    body: Buffer.from('<html><body><h1>502 Bad Gateway</h1></body></html>'),
  },
} satisfies Readonly<Record<string, DoubleAnswer>>
