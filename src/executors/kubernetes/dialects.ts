/**
 * How a cluster names its Ascend devices: `cce` with the plugins of Huawei Cloud CCE and ModelArts Lite Cluster,
 * `mindCluster` with those of MindCluster on a cluster of one's own.
 */
export type KubernetesDialect = 'cce' | 'mindCluster'

export interface DialectFacts {
  /** Extended resource that the device plugin offers, counted in NPUs. */
  readonly resource: string
  /** Label of job, pods and rank table by which the Ascend controllers find them. */
  readonly label: Readonly<Record<string, string>>
  /** The ConfigMap that a controller fills with the job's device addresses, and where pods see it. */
  readonly rankTable: { readonly namePrefix: string; readonly key: string; readonly mountPath: string }
  /** Volcano plugins beside `env` and `svc`. */
  readonly plugins: Readonly<Record<string, readonly string[]>>
  /** Variables whose values Kubernetes takes from the pod's annotations. */
  readonly annotationEnv: Readonly<Record<string, string>>
  /** Where nodes usually have npu-smi. */
  readonly npuSmi: string
}

/**
 * Sources: Huawei Cloud, umn-cluster-modelarts-0014 (cce); Ascend/mind-cluster, hccl.json_file_description.md and the
 * vcjob of its scheduling tests (mindCluster).
 */
export const dialects: Readonly<Record<KubernetesDialect, DialectFacts>> = {
  cce: {
    resource: 'huawei.com/ascend-1980',
    label: { 'ring-controller.cce': 'ascend-1980' },
    rankTable: { namePrefix: 'configmap1980-', key: 'jobstart_hccl.json', mountPath: '/user/config' },
    plugins: { configmap1980: ['--rank-table-version=v2'] },
    annotationEnv: {},
    npuSmi: '/usr/local/sbin/npu-smi',
  },
  mindCluster: {
    resource: 'huawei.com/Ascend910',
    label: { 'ring-controller.atlas': 'ascend-910b' },
    rankTable: { namePrefix: 'rings-config-', key: 'hccl.json', mountPath: '/user/serverid/devindex/config' },
    plugins: {},
    annotationEnv: { ASCEND_VISIBLE_DEVICES: 'huawei.com/Ascend910' },
    npuSmi: '/usr/local/bin/npu-smi',
  },
}
