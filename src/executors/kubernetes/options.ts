import type { KubernetesDialect } from './dialects.ts'

/** A folder of this machine and the volume through which pods see the same files. */
export type KubernetesMount = {
  /** Folder on this machine; paths of launches in it are shown to pods. */
  readonly path: string
  /** The same folder as pods see it; default `path`. */
  readonly mountPath?: string
} & (
  | {
      /** Name of a PersistentVolumeClaim in the namespace. */
      readonly claim: string
      /** Folder within the claim; default its root. */
      readonly subPath?: string
    }
  | { readonly hostPath: string }
  | { readonly nfsServer: string; readonly nfsPath: string }
)

export interface KubernetesOptions {
  /** Image of every pod; it brings the program and its packages. */
  readonly image: string
  readonly dialect: KubernetesDialect
  /** Where pods find the folders of this machine; a path that lies in none is refused when a job is submitted. */
  readonly mounts?: readonly KubernetesMount[]
  /** File to read the cluster's address and credentials from; default as kubectl finds them, in a pod its own. */
  readonly kubeconfig?: string
  /** Default: the current one of the kubeconfig. */
  readonly context?: string
  /** Default: that of the context, else `default`. */
  readonly namespace?: string
  /** Volcano queue; default `default`. */
  readonly queue?: string
  /** NPUs of one node; absent: unknown, and layouts are not checked against it. */
  readonly devicesPerNode?: number
  /** Nodes that one job may have; absent: any number. */
  readonly maxNodes?: number
  /** Cores and memory of each pod, requested and limited alike, as Kubernetes writes them: `128`, `512Gi`. */
  readonly cpu?: number | string
  readonly memory?: string
  /** Size limit of /dev/shm; default `60Gi`. It counts against `memory`. */
  readonly shm?: string
  /** Whether pods use the node's network; default true for jobs of several nodes. */
  readonly hostNetwork?: boolean
  /** Where nodes have npu-smi; default `/usr/local/sbin/npu-smi` (cce), `/usr/local/bin/npu-smi` (mindCluster). */
  readonly npuSmi?: string
  /** Variables of every job; a launch's own come last. Values whose names speak of secrets go into a Secret. */
  readonly env?: Readonly<Record<string, string>>
  /** Variables whose values are in Secrets that the namespace has already. */
  readonly secretEnv?: Readonly<Record<string, { readonly secret: string; readonly key: string }>>
  /** Labels of the job and its pods, beside the dialect's own. */
  readonly labels?: Readonly<Record<string, string>>
  /** Further fields of the pod's spec (`nodeSelector`, `tolerations`, `imagePullSecrets`), as Kubernetes names them. */
  readonly podSpec?: Readonly<Record<string, unknown>>
  /** Time between TERM and KILL when a pod is stopped, in s; default 30. */
  readonly terminationGracePeriodSeconds?: number
  /** How long the cluster keeps an ended job and its logs, in s; default a week. */
  readonly ttlSecondsAfterFinished?: number
  /** Time between two looks at a job, in ms; default 2,000. */
  readonly pollMs?: number
}
