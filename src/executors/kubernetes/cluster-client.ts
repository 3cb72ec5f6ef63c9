import http, { type IncomingMessage } from 'node:http'
import https, { type RequestOptions } from 'node:https'
import { JobError, UnsupportedError } from '../../errors.ts'
import type { KubernetesOptions } from './options.ts'

/** Speaks to one cluster with the credentials of a kubeconfig, which may be renewed on the way. */
export interface ClusterClient {
  readonly namespace: string
  /**
   * Asks for JSON; network failures, 429 and 5xx are tried again for some minutes. Gives undefined where the answer is
   * one of `absent`, by status.
   * @throws JobError saying what the cluster said, with its `status`.
   */
  ask(request: ClusterRequest): Promise<unknown>
  /** One try at a stream; the answer's body is read by the caller. */
  open(request: Pick<ClusterRequest, 'path' | 'query' | 'signal'>): Promise<IncomingMessage>
}

export interface ClusterRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly body?: unknown
  readonly absent?: readonly number[]
  readonly signal?: AbortSignal | undefined
}

type Auth = Readonly<{ server: string; apply(options: RequestOptions): Promise<void> }>

const askTimeoutMs = 30_000
/** A follower that hears nothing for so long asks again: a dead connection and a silent job look alike. */
const silenceMs = 60_000
const tries = 8

/**
 * Opens the cluster that `options` name.
 * @throws UnsupportedError when `@kubernetes/client-node` is not installed.
 */
export async function clusterClient(options: KubernetesOptions): Promise<ClusterClient> {
  const { default: pRetry, AbortError } = await import('p-retry')
  const { auth, namespace } = await readKubeconfig(options)
  const once = async (request: ClusterRequest): Promise<unknown> => {
    const answer = await send(auth, request, askTimeoutMs)
    const text = await readText(answer)
    const status = answer.statusCode ?? 0
    if (status < 300) return JSON.parse(text)
    if (request.absent?.includes(status)) return undefined
    const error = refusal(request, status, text)
    throw error.retryable ? error : new AbortError(error)
  }
  return {
    namespace,
    ask: request =>
      pRetry(() => once(request), {
        ...{ retries: tries, minTimeout: options.pollMs ?? 2_000, maxTimeout: 30_000 },
        ...(request.signal ? { signal: request.signal } : {}),
      }),
    async open(request) {
      const answer = await send(auth, { ...request, method: 'GET' }, silenceMs)
      if (answer.statusCode === 200) return answer
      throw refusal({ ...request, method: 'GET' }, answer.statusCode ?? 0, await readText(answer))
    },
  }
}

async function readKubeconfig({ kubeconfig, context, namespace }: KubernetesOptions) {
  const { KubeConfig } = await import('@kubernetes/client-node').catch(cause => {
    throw new UnsupportedError('kubernetes: the package @kubernetes/client-node is not installed.', {
      hint: 'npm install @kubernetes/client-node (version 1.4 on Node 20).',
      cause,
    })
  })
  const config = new KubeConfig()
  if (kubeconfig === undefined) config.loadFromDefault()
  else config.loadFromFile(kubeconfig)
  if (context !== undefined) config.setCurrentContext(context)
  const cluster = config.getCurrentCluster()
  if (!cluster)
    throw new UnsupportedError(
      `kubernetes: the context '${config.getCurrentContext()}' of the kubeconfig has no cluster.`,
    )
  const named = config.getContextObject(config.getCurrentContext())?.namespace
  const auth: Auth = { server: cluster.server, apply: options => config.applyToHTTPSOptions(options) }
  return { auth, namespace: namespace ?? named ?? 'default' }
}

async function send(auth: Auth, request: ClusterRequest, timeout: number): Promise<IncomingMessage> {
  const { method, path, query, body, signal } = request
  const url = new URL(auth.server.replace(/\/$/, '') + path)
  for (const [name, value] of Object.entries(query ?? {})) url.searchParams.set(name, value)
  const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
  const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
  const options: RequestOptions = {
    ...{ method, timeout, ...(signal ? { signal } : {}) },
    headers: {
      accept: 'application/json',
      ...(payload ? { 'content-type': type, 'content-length': payload.length } : {}),
    },
  }
  await auth.apply(options)
  return new Promise((resolve, reject) => {
    const sent = (url.protocol === 'http:' ? http : https).request(url, options, resolve)
    // Where an answer is already being read, its reader sees the error too.
    sent.on('error', reject)
    sent.on('timeout', () => sent.destroy(Object.assign(new Error(`${url.host} is silent.`), { code: 'ETIMEDOUT' })))
    sent.end(payload)
  })
}

async function readText(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of answer) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

const hints: Readonly<Record<number, string>> = {
  401: 'The credentials of the kubeconfig are not accepted or have expired.',
  403: 'The account needs create, get and delete on jobs.batch.volcano.sh, and on pods, pods/log, configmaps, secrets.',
  404: 'Is Volcano installed there, and does the namespace exist?',
}

function refusal({ method, path }: ClusterRequest, status: number, text: string): JobError {
  let said = text.trim().slice(0, 500)
  try {
    said = JSON.parse(text).message ?? said
  } catch {
    // Proxies answer in HTML or plain text: shown as it is.
  }
  const error = new JobError(`The cluster answered ${status} to ${method} ${path}: ${said}`, {
    ...{ executor: 'kubernetes', job: path.split('/').at(-1) ?? '', logTail: [], hint: hints[status] },
    retryable: status === 429 || status >= 500,
  })
  return Object.assign(error, { status })
}
