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

const machineFile = ({ dir }: Pick<KubernetesJob, 'dir'>, rank: number): string => join(dir, `machine-${rank}`)
