import { createTransport, type Transport } from 'ascendflow/modelarts'
import { type CloudDouble, type CloudDoubleOptions, type CloudFault, startCloudDouble } from 'ascendflow/testing'
import { afterEach } from 'vitest'

const open: CloudDouble[] = []
afterEach(async () => {
  for (const double of open.splice(0)) await double.close()
})

/** A double of the cloud that ends with the test, and a transport to it. */
export async function doubleAccount(options: CloudDoubleOptions = {}) {
  const double = await startCloudDouble(options)
  open.push(double)
  return { double, transport: transportTo(double) }
}

export function transportTo({ url, region, credentials }: CloudDouble, more: { projectId?: string } = {}): Transport {
  const endpoints = { modelarts: url, iam: url, 'sfs-turbo': url }
  return createTransport({ region, credentials, endpoints, retryDelayMs: 1, ...more })
}

/** Quick waits. */
export const soon = { pollMs: 1, timeoutMs: 5_000 }

/** Makes the answer to each request that matches be lost, the first `times` times. */
export function loses(pattern: RegExp, times = 1, fault: CloudFault = 'lost-answer') {
  let left = times
  return ({ method, path }: { method: string; path: string }) =>
    pattern.test(`${method} ${path}`) && left-- > 0 ? fault : undefined
}
