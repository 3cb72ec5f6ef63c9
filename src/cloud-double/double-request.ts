import type { IncomingMessage } from 'node:http'

/** A pair of keys that the double accepts. */
export interface DoubleKeys {
  readonly ak: string
  readonly sk: string
  readonly securityToken?: string
  /** Milliseconds since 1970. */
  readonly expiresAt?: number
}

/** A request that was received whole. */
export interface DoubleRequest {
  readonly method: string
  readonly url: URL
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly bytes: Buffer
}

/** What a route answers. */
export interface DoubleAnswer {
  readonly status: number
  /** Sent as JSON, or as it is when it is a buffer; nothing when absent. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

/** Reads a request to its end. */
export async function receive(incoming: IncomingMessage): Promise<DoubleRequest> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(chunk as Buffer)
  const headers = Object.fromEntries(
    Object.entries(incoming.headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(',') : value]),
  )
  const url = new URL(incoming.url ?? '/', `http://${headers.host ?? 'localhost'}`)
  return { method: incoming.method ?? 'GET', url, headers, bytes: Buffer.concat(chunks) }
}
