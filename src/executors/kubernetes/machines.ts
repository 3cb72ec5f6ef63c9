import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FailedNode } from '../../flow/executor.ts'
import type { KubernetesJob } from './cluster-job.ts'
import { type Pod, rankOf } from './job-status.ts'

/** Notes in the job's folder on which machine a pod runs: the cluster forgets it with the pod. */
export async function noteMachine(job: KubernetesJob, pod: Pod): Promise<void> {
  const path = machineFile(job, rankOf(pod))
  const name = pod.spec?.nodeName
  if (name !== undefined && !existsSync(path)) await writeFile(path, name).catch(() => {})
}

/** The machines of nodes where earlier tries failed, as far as they were seen. */
export async function machinesOf(avoid: readonly FailedNode[]): Promise<readonly string[]> {
  const names = await Promise.all(
    avoid.map(({ job, node }) => readFile(machineFile(job as KubernetesJob, node), 'utf8').catch(() => [])),
  )
  return [...new Set(names.flat())]
}

/**
 * Affinity that keeps pods away from machines, beside what the user asks for.
 * Source: Kubernetes' reference of NodeSelectorTerm: fields are matched by `metadata.name` alone, one value each.
 */
export function affinityWithout(machines: readonly string[], asked: unknown): Record<string, unknown> {
  const away = machines.map(name => ({ key: 'metadata.name', operator: 'NotIn', values: [name] }))
  const affinity = (asked ?? {}) as NodeAffinity
  const { nodeAffinity } = affinity
  const required = nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution
  // Of the terms one has to hold, of a term's fields all.
  const terms = (required?.nodeSelectorTerms ?? [{}]).map(term => ({
    ...term,
    matchFields: [...(term.matchFields ?? []), ...away],
  }))
  const selector = { ...required, nodeSelectorTerms: terms }
  return {
    ...affinity,
    nodeAffinity: { ...nodeAffinity, requiredDuringSchedulingIgnoredDuringExecution: selector },
  }
}

interface NodeAffinity {
  readonly nodeAffinity?: {
    readonly requiredDuringSchedulingIgnoredDuringExecution?: {
      readonly nodeSelectorTerms?: readonly { readonly matchFields?: readonly unknown[] }[]
    }
  }
}

const machineFile = ({ dir }: Pick<KubernetesJob, 'dir'>, rank: number): string => join(dir, `machine-${rank}`)
