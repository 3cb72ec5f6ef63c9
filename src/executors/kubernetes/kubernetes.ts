import { setTimeout as sleep } from 'node:timers/promises'
import { JobError } from '../../errors.ts'
import type { Executor } from '../../flow/executor.ts'
import { isKept, keptUpdates } from '../kept-updates.ts'
import { type ClusterClient, clusterClient } from './cluster-client.ts'
import { jobPath, type KubernetesJob, pathOf, readJob, readPods } from './cluster-job.ts'
import { hasEnded, jobState, podHasEnded, rankOf, VolcanoStatus } from './job-status.ts'
import { machinesOf } from './machines.ts'
import type { KubernetesOptions } from './options.ts'
import { type ApiObject, idAnnotation, jobName, volcanoJob } from './volcano-job.ts'
import { noteCancelled, watchJob } from './watch-job.ts'

const name = 'kubernetes'

/**
 * Runs jobs as Volcano jobs of a Kubernetes cluster, one pod a node, with the NPUs that its device plugin offers.
 *
 * Needs the package `@kubernetes/client-node`, Volcano in the cluster, and for paths a volume that this machine and the
 * pods share. The job outlives this process; its log can be followed from the first line as long as the cluster keeps
 * the pods and their nodes have not rotated it away (by default beyond 50 MB a pod).
 */
export function kubernetes(options: KubernetesOptions): Executor {
  const { devicesPerNode, maxNodes, pollMs = 2_000, terminationGracePeriodSeconds = 30 } = options
  // Beyond the grace of pods, time for the cluster to tell.
  const patienceMs = (terminationGracePeriodSeconds + 120) * 1_000
  let opened: Promise<ClusterClient> | undefined
  const open = () => {
    opened ??= clusterClient(options)
    return opened
  }
  return {
    name,
    ...(devicesPerNode === undefined ? {} : { devicesPerNode }),
    ...(maxNodes === undefined ? {} : { maxNodes }),

    describe(launch) {
      const { secret, rankTable, job } = volcanoJob(launch, { ...options, id: 'job', name: 'job' })
      const items = [...(secret ? [hideValues(secret)] : []), ...(rankTable ? [rankTable] : []), job]
      return JSON.stringify(items.length === 1 ? job : { apiVersion: 'v1', kind: 'List', items }, undefined, 2)
    },

    async submit(launch, { id, logDir, signal, avoid = [] }) {
      const called = jobName(id, logDir)
      const without = await machinesOf(avoid)
      const { secret, rankTable, job } = volcanoJob(launch, { ...options, id, name: called, without })
      const client = await open()
      const path = (object: ApiObject) => pathOf(client.namespace, object)
      const parts = [secret, rankTable].filter(part => part !== undefined)
      // What pods will look for is there before them; the job takes it along when it is deleted.
      for (const part of parts) await create(client, part, signal)
      try {
        await create(client, job, signal)
      } catch (error) {
        if ((error as { status?: number }).status !== undefined)
          for (const part of parts) await client.ask({ method: 'DELETE', path: path(part), absent: [404] })
        throw error
      }
      const { metadata } = VolcanoStatus.parse(await client.ask({ method: 'GET', path: path(job), signal }))
      if (metadata.annotations?.[idAnnotation] !== id) throw nameTaken(called, id)
      const owner = { apiVersion: job.apiVersion, kind: job.kind, name: called, uid: metadata.uid }
      const body = { metadata: { ownerReferences: [owner] } }
      for (const part of parts) await client.ask({ method: 'PATCH', path: path(part), body, signal })
      const { namespace } = client
      const left = without.length > 0 ? { leftOut: without } : {}
      return {
        executor: name,
        id,
        namespace,
        name: called,
        uid: metadata.uid,
        dir: logDir,
        ...left,
      } satisfies KubernetesJob
    },

    async *watch(handle, { signal }) {
      const job = handle as KubernetesJob
      const client = await open()
      yield* keptUpdates({
        dir: job.dir,
        updates: () => watchJob({ client, job, signal, pollMs, patienceMs }),
        // What it leaves in the cluster is the cluster's to keep, for those who look at it there.
        release: async () => {},
      })
    },

    async cancel(handle) {
      const job = handle as KubernetesJob
      if (isKept(job.dir)) return
      const client = await open()
      const found = await readJob(client, job)
      if (found && !hasEnded(jobState(found, []))) {
        // What its pods still write while they end can be read only then: with them it goes.
        const story = this.watch(job, { signal: AbortSignal.timeout(patienceMs) })[Symbol.asyncIterator]()
        await story.next()
        await noteCancelled(job)
        const body = {
          ...{ apiVersion: 'v1', kind: 'DeleteOptions', propagationPolicy: 'Foreground' },
          preconditions: { uid: job.uid },
        }
        // A conflict: it is another job by now, and ours is gone.
        await client.ask({ method: 'DELETE', path: jobPath(job), body, absent: [404, 409] })
        await toItsEnd(story).catch(() => {})
      }
      const deadline = Date.now() + patienceMs
      for (;;) {
        const left = await nodesLeft(client, job)
        if (left.length === 0) return
        if (Date.now() > deadline) throw stillThere(job, left)
        await sleep(pollMs)
      }
    },
  }
}

async function toItsEnd(story: AsyncIterator<unknown>): Promise<void> {
  while (!(await story.next()).done);
}

/** Nodes on which something of the job runs, as far as the cluster knows. */
async function nodesLeft(client: ClusterClient, job: KubernetesJob): Promise<readonly number[]> {
  const pods = await readPods(client, job)
  const left = pods.filter(pod => !podHasEnded(pod)).map(rankOf)
  if (left.length > 0) return left
  // Without pods a job may still be about to make some.
  const found = await readJob(client, job)
  return found && !hasEnded(jobState(found, pods)) ? [0] : []
}

async function create(client: ClusterClient, object: ApiObject, signal: AbortSignal): Promise<void> {
  const path = pathOf(client.namespace, object).split('/').slice(0, -1).join('/')
  // Strict: the cluster refuses fields that it does not know, which it would otherwise drop without a word.
  const query = { fieldValidation: 'Strict' }
  await client.ask({ method: 'POST', path, query, body: object, absent: [409], signal })
}

function hideValues(secret: ApiObject): ApiObject {
  const hidden = Object.keys(secret.stringData as object).map(key => [key, '…'])
  return { ...secret, stringData: Object.fromEntries(hidden) }
}

function nameTaken(job: string, id: string): JobError {
  return new JobError(`The cluster has another job called ${job}, which was not submitted as ${id}.`, {
    ...{ executor: name, job: id, retryable: false, logTail: [] },
    hint: 'Delete it, or use another namespace.',
  })
}

function stillThere({ name: job, id }: KubernetesJob, nodes: readonly number[]): JobError {
  return new JobError(
    `Job ${job} was deleted, but the cluster does not say that its nodes ${nodes.join(', ')} stopped.`,
    {
      ...{ executor: name, job: id, retryable: true, logTail: [] },
      hint: `Look at them: kubectl get pods -o wide -l volcano.sh/job-name=${job}`,
    },
  )
}
