import { z } from 'zod'
import type { JobHandle } from '../../flow/executor.ts'
import type { ClusterClient } from './cluster-client.ts'
import { Pod, VolcanoStatus } from './job-status.ts'
import type { ApiObject } from './volcano-job.ts'

/** What is noted of a job: enough to find it, and not another of its name, from any process. */
export interface KubernetesJob extends JobHandle {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  /** The job's folder on the machine that submitted it. */
  readonly dir: string
}

const plurals: Readonly<Record<string, string>> = { Job: 'jobs', Secret: 'secrets', ConfigMap: 'configmaps' }

/** Where the API has an object of a namespace. */
export function pathOf(namespace: string, { apiVersion, kind, metadata }: ApiObject): string {
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`
  return `${group}/namespaces/${namespace}/${plurals[kind]}/${metadata.name}`
}

export const jobPath = (job: KubernetesJob) =>
  `/apis/batch.volcano.sh/v1alpha1/namespaces/${job.namespace}/jobs/${job.name}`

export const podsPath = (job: KubernetesJob) => `/api/v1/namespaces/${job.namespace}/pods`

/** The job of the handle; undefined when it is gone, also when another has its name. */
export async function readJob(
  client: ClusterClient,
  job: KubernetesJob,
  signal?: AbortSignal,
): Promise<VolcanoStatus | undefined> {
  const answer = await client.ask({ method: 'GET', path: jobPath(job), absent: [404], signal })
  const found = answer === undefined ? undefined : VolcanoStatus.parse(answer)
  return found?.metadata.uid === job.uid ? found : undefined
}

/** The job's pods that the cluster still has. */
export async function readPods(
  client: ClusterClient,
  job: KubernetesJob,
  signal?: AbortSignal,
): Promise<readonly Pod[]> {
  const query = { labelSelector: `volcano.sh/job-name=${job.name}` }
  const answer = await client.ask({ method: 'GET', path: podsPath(job), query, signal })
  return z.object({ items: z.array(Pod) }).parse(answer).items
}

/** One pod as it is now; undefined when it is gone, also when another has its name. */
export async function readPod(
  client: ClusterClient,
  { path, uid, signal }: { readonly path: string; readonly uid: string; readonly signal: AbortSignal },
): Promise<Pod | undefined> {
  const answer = await client.ask({ method: 'GET', path, absent: [404], signal })
  const found = answer === undefined ? undefined : Pod.parse(answer)
  return found?.metadata.uid === uid ? found : undefined
}
