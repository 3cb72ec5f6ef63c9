import { type KubernetesOptions, kubernetes } from 'ascendflow'
import { describe, expect, it } from 'vitest'
import { jobName } from '../../../src/executors/kubernetes/volcano-job.ts'
import { validateVolcanoJob } from './volcano-schema.ts'

const launch = {
  argv: ['torchrun', '--node_rank', { node: 'rank' }, { read: '/mnt/turbo/run.py' }, '--cost', '$5', 3],
  env: { HCCL_CONNECT_TIMEOUT: '1800' },
  nodes: 2,
  devicesPerNode: 8,
} as const
const image = 'swr.cn-southwest-2.myhuaweicloud.com/my-org/pytorch_2_1_ascend:train-v3'
const nfs = { path: '/mnt/turbo', mountPath: '/home/ma-user/work', nfsServer: '192.168.20.7', nfsPath: '/team-a' }

function described(
  options: Partial<KubernetesOptions>,
  of: Parameters<ReturnType<typeof kubernetes>['describe']>[0] = launch,
) {
  return JSON.parse(kubernetes({ image, dialect: 'cce', mounts: [nfs], ...options }).describe(of))
}

describe("the Volcano job of kubernetes()'s description", () => {
  it('is that of CCE and ModelArts Lite Cluster: resource, labels, rank table, plugins', () => {
    const [rankTable, job] = described({ cpu: 128, memory: '512Gi' }).items
    expect(rankTable).toMatchObject({
      ...{ apiVersion: 'v1', kind: 'ConfigMap', data: { 'jobstart_hccl.json': '{"status":"initializing"}' } },
      metadata: { name: 'configmap1980-job', labels: { 'ring-controller.cce': 'ascend-1980' } },
    })
    expect(job.metadata.labels).toMatchObject({ 'ring-controller.cce': 'ascend-1980' })
    expect(job.spec).toMatchObject({
      ...{ schedulerName: 'volcano', minAvailable: 2, queue: 'default' },
      plugins: {
        configmap1980: ['--rank-table-version=v2'],
        env: [],
        svc: ['--publish-not-ready-addresses=true'],
      },
    })
    const { template, ...task } = job.spec.tasks[0]
    expect(task).toMatchObject({
      ...{ name: 'worker', replicas: 2 },
      policies: [{ event: 'TaskCompleted', action: 'CompleteJob' }],
    })
    expect(template.metadata.labels).toEqual({ 'ring-controller.cce': 'ascend-1980' })
    const amounts = { 'huawei.com/ascend-1980': 8, cpu: 128, memory: '512Gi' }
    expect(template.spec).toMatchObject({
      ...{ restartPolicy: 'Never', hostNetwork: true, dnsPolicy: 'ClusterFirstWithHostNet' },
      containers: [
        {
          image,
          command: [
            ...['torchrun', '--node_rank', '$(VC_TASK_INDEX)', '/home/ma-user/work/run.py', '--cost', '$$5', '3'],
          ],
          env: [{ name: 'HCCL_CONNECT_TIMEOUT', value: '1800' }],
          resources: { requests: amounts, limits: amounts },
          volumeMounts: [
            { name: 'mount-0', mountPath: '/home/ma-user/work', readOnly: true },
            { name: 'shm', mountPath: '/dev/shm' },
            { name: 'driver', mountPath: '/usr/local/Ascend/driver', readOnly: true },
            { name: 'npu-smi', mountPath: '/usr/local/sbin/npu-smi', readOnly: true },
            { name: 'rank-table', mountPath: '/user/config', readOnly: true },
          ],
        },
      ],
      volumes: [
        { name: 'mount-0', nfs: { server: '192.168.20.7', path: '/team-a' } },
        { name: 'shm', emptyDir: { medium: 'Memory', sizeLimit: '60Gi' } },
        { name: 'driver', hostPath: { path: '/usr/local/Ascend/driver', type: 'Directory' } },
        { name: 'npu-smi', hostPath: { path: '/usr/local/sbin/npu-smi', type: 'File' } },
        { name: 'rank-table', configMap: { name: 'configmap1980-job' } },
      ],
    })
  })

  it('is that of MindCluster: its resource and labels, and the devices from an annotation', () => {
    const nodeSelector = { 'host-arch': 'huawei-arm', 'accelerator-type': 'module-910b-8' }
    const [rankTable, job] = described({ dialect: 'mindCluster', podSpec: { nodeSelector } }).items
    expect(rankTable).toMatchObject({
      data: { 'hccl.json': '{"status":"initializing"}' },
      metadata: { name: 'rings-config-job', labels: { 'ring-controller.atlas': 'ascend-910b' } },
    })
    const { spec } = job.spec.tasks[0].template
    expect(job.spec.plugins).toEqual({ env: [], svc: ['--publish-not-ready-addresses=true'] })
    expect(spec.nodeSelector).toEqual(nodeSelector)
    expect(spec.containers[0].resources.limits).toEqual({ 'huawei.com/Ascend910': 8 })
    expect(spec.containers[0].env).toContainEqual({
      name: 'ASCEND_VISIBLE_DEVICES',
      valueFrom: { fieldRef: { fieldPath: "metadata.annotations['huawei.com/Ascend910']" } },
    })
    expect(spec.containers[0].volumeMounts).toContainEqual({
      ...{ name: 'rank-table', mountPath: '/user/serverid/devindex/config', readOnly: true },
    })
  })

  it.each(['cce', 'mindCluster'] as const)('fits the schema of Volcano (%s)', dialect => {
    const secretEnv = { OBS_AK: { secret: 'obs', key: 'ak' } }
    const claim = { path: '/mnt/turbo', claim: 'team-a', subPath: 'runs' }
    const job = described({ dialect, secretEnv, mounts: [claim] }).items.at(-1)
    expect(validateVolcanoJob(job, { queues: ['default'] })).toEqual([])
    expect(validateVolcanoJob({ ...job, spec: { ...job.spec, minAvailble: 2 } }, { queues: ['default'] })).toEqual([
      'spec: Unrecognized key: "minAvailble"',
    ])
  })

  it('asks for no devices, driver or rank table where the job needs none', () => {
    const job = described({ mounts: [] }, { argv: ['true'], nodes: 1, devicesPerNode: 0 })
    const { spec } = job.spec.tasks[0].template
    expect(job.kind).toBe('Job')
    expect(spec.volumes.map((volume: { name: string }) => volume.name)).toEqual(['shm'])
    expect(spec.containers[0].resources).toEqual({ requests: {}, limits: {} })
  })

  it('enters the folder of the launch, as pods see it', () => {
    const job = described({ mounts: [] }, { argv: ['pwd'], dir: '/opt/$x', nodes: 1, devicesPerNode: 0 })
    const enter = 'cd -- "$$0" && exec "$$@"'
    const { command } = job.spec.tasks[0].template.spec.containers[0]
    expect(command).toEqual(['/bin/sh', '-c', enter, '/opt/$$x', 'pwd'])
  })

  it('mounts a folder for writing only where the command writes', () => {
    const mounts = [
      { path: '/data', claim: 'data' },
      { path: '/data/out', claim: 'out' },
    ]
    const argv = ['cp', { read: '/data/in' }, { write: '/data/out/x' }]
    const job = described({ mounts }, { argv, nodes: 1, devicesPerNode: 0 })
    expect(job.spec.tasks[0].template.spec.containers[0].volumeMounts.slice(0, 2)).toEqual([
      { name: 'mount-0', mountPath: '/data', readOnly: true },
      { name: 'mount-1', mountPath: '/data/out' },
    ])
  })

  it('does not take a folder for another whose name begins alike', () => {
    const argv = ['cat', { read: '/data-2/in' }]
    const text = () => described({ mounts: [{ path: '/data', claim: 'c' }] }, { argv, nodes: 1, devicesPerNode: 0 })
    expect(text).toThrow('pods cannot see /data-2/in')
  })

  it.each(['train-0123456789ab-1', 'My_Step.7B-0123456789ab-12', '7b', `${'x'.repeat(64)}-0123456789ab-100`])(
    'has a name that services and pods can take (%s)',
    id => {
      const name = jobName(id, '/a')
      expect(name).toMatch(/^[a-z]([-a-z0-9]*[a-z0-9])?$/)
      expect(name.length).toBeLessThanOrEqual(49)
      expect(jobName(id, '/a')).toBe(name)
      expect(jobName(id, '/b')).not.toBe(name)
    },
  )
})
