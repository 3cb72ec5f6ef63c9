import { z } from 'zod'

/**
 * What a cluster with Volcano takes for a job: its custom resource definition and the pod template in it, unknown fields
 * refused as with `fieldValidation=Strict`, and the checks of its admission webhook. Fields of the pod that the executor
 * may not use are known by name only.
 *
 * Source: volcano-sh/volcano ed72c7c8, config/crd/volcano/bases/batch.volcano.sh_jobs.yaml and
 * pkg/webhooks/admission/jobs/validate/admit_job.go.
 */
export function validateVolcanoJob(body: unknown, { queues }: { readonly queues: readonly string[] }): string[] {
  const parsed = Job.safeParse(body)
  if (!parsed.success) return parsed.error.issues.map(issue => `${issue.path.join('.')}: ${issue.message}`)
  const { metadata, spec } = parsed.data
  const problems: string[] = []
  const replicas = spec.tasks.reduce((sum, task) => sum + task.replicas, 0)
  if (spec.minAvailable > replicas)
    problems.push("job 'minAvailable' should not be greater than total replicas in tasks")
  if (!queues.includes(spec.queue)) problems.push(`unable to find job queue: ${spec.queue}`)
  for (const plugin of Object.keys(spec.plugins))
    if (!plugins.includes(plugin)) problems.push(`unable to find job plugin: ${plugin}`)
  for (const { name, template } of spec.tasks) {
    if (`${metadata.name}-${name}-${replicas - 1}`.length > 63) problems.push(`pod name of task ${name} is too long`)
    const volumes = template.spec.volumes.map(volume => volume.name)
    for (const { volumeMounts, resources } of template.spec.containers) {
      for (const mount of volumeMounts)
        if (!volumes.includes(mount.name)) problems.push(`volumeMounts: ${mount.name}: Not found`)
      if (new Set(volumeMounts.map(mount => mount.mountPath)).size < volumeMounts.length)
        problems.push('volumeMounts: mountPath must be unique')
      for (const [resource, amount] of Object.entries(resources.limits))
        if (resource.includes('/') && resources.requests[resource] !== amount)
          problems.push(`${resource}: requests must equal limits for extended resources`)
    }
    for (const { configMap } of template.spec.volumes)
      if (configMap && configMap.name.length > 63) problems.push(`${configMap.name} is too long`)
  }
  return problems
}

/** Those of Volcano, and of the two vendors' versions of it. */
const plugins = ['env', 'ssh', 'svc', 'tensorflow', 'mpi', 'pytorch', 'hcclrank', 'ray', 'configmap1980']

const events = [
  ...['*', 'PodPending', 'PodRunning', 'PodFailed', 'PodEvicted', 'Unknown', 'TaskCompleted', 'OutOfSync'],
  ...['CommandIssued', 'JobUpdated', 'TaskFailed'],
] as const
const actions = [
  ...['AbortJob', 'RestartJob', 'RestartTask', 'RestartPod', 'RestartPartition', 'TerminateJob', 'CompleteJob'],
  ...['ResumeJob'],
] as const

const label = z
  .string()
  .regex(/^([A-Za-z0-9]([-\w.]*[A-Za-z0-9])?)?$/)
  .max(63)
const text = z.string()
const unused = (...names: string[]) => Object.fromEntries(names.map(name => [name, z.unknown().optional()]))

const Policy = z.strictObject({
  action: z.enum(actions),
  event: z.enum(events).optional(),
  events: z.array(z.enum(events)).optional(),
  ...unused('exitCode', 'timeout'),
})

const quantity = z.union([z.number().int(), z.string().regex(/^\d+(\.\d+)?([EPTGMk]i?|Ki|m)?$/)])

const Container = z.strictObject({
  name: text,
  image: text.min(1),
  command: z.array(text).min(1),
  env: z.array(
    z.strictObject({
      name: text.min(1),
      value: text.optional(),
      valueFrom: z
        .strictObject({
          secretKeyRef: z.strictObject({ name: text, key: z.string().regex(/^[-._a-zA-Z0-9]+$/) }).optional(),
          fieldRef: z.strictObject({ fieldPath: text }).optional(),
        })
        .optional(),
    }),
  ),
  resources: z.strictObject({ requests: z.record(text, quantity), limits: z.record(text, quantity) }),
  volumeMounts: z.array(
    z.strictObject({
      ...{ name: text, mountPath: z.string().regex(/^[^:]+$/), subPath: text.optional() },
      readOnly: z.boolean().optional(),
    }),
  ),
  ...unused('args', 'envFrom', 'imagePullPolicy', 'lifecycle', 'livenessProbe', 'ports', 'readinessProbe'),
  ...unused('resizePolicy', 'restartPolicy', 'restartPolicyRules', 'securityContext', 'startupProbe', 'stdin'),
  ...unused('stdinOnce', 'terminationMessagePath', 'terminationMessagePolicy', 'tty', 'volumeDevices', 'workingDir'),
})

const Volume = z.strictObject({
  name: z.string().regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/),
  configMap: z.strictObject({ name: text }).optional(),
  emptyDir: z.strictObject({ medium: text, sizeLimit: quantity }).optional(),
  hostPath: z.strictObject({ path: text, type: z.enum(['Directory', 'File']) }).optional(),
  nfs: z.strictObject({ server: text, path: text }).optional(),
  persistentVolumeClaim: z.strictObject({ claimName: text }).optional(),
})

/** Source: Kubernetes' reference of NodeAffinity and its validation: `matchFields` knows one field, and one value. */
const NodeAffinity = z.strictObject({
  requiredDuringSchedulingIgnoredDuringExecution: z.strictObject({
    nodeSelectorTerms: z
      .array(
        z.strictObject({
          matchFields: z
            .array(
              z.strictObject({
                ...{ key: z.literal('metadata.name'), operator: z.enum(['In', 'NotIn']), values: z.tuple([text]) },
              }),
            )
            .optional(),
          matchExpressions: z
            .array(z.strictObject({ key: text, operator: z.enum(['In', 'NotIn', 'Exists']), values: z.array(text) }))
            .optional(),
        }),
      )
      .min(1),
  }),
})

const PodSpec = z.strictObject({
  affinity: z.strictObject({ nodeAffinity: NodeAffinity.optional() }).optional(),
  containers: z.array(Container).min(1),
  volumes: z.array(Volume),
  restartPolicy: z.enum(['Always', 'OnFailure', 'Never']),
  terminationGracePeriodSeconds: z.number().int().min(0),
  enableServiceLinks: z.boolean(),
  automountServiceAccountToken: z.boolean(),
  hostNetwork: z.boolean().optional(),
  dnsPolicy: z.enum(['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None']).optional(),
  nodeSelector: z.record(text, text).optional(),
  imagePullSecrets: z.array(z.strictObject({ name: text })).optional(),
  ...unused('activeDeadlineSeconds', 'dnsConfig', 'ephemeralContainers', 'hostAliases', 'hostIPC', 'hostPID'),
  ...unused('hostUsers', 'hostname', 'hostnameOverride', 'initContainers', 'nodeName', 'os', 'overhead'),
  ...unused('preemptionPolicy', 'priority', 'priorityClassName', 'readinessGates', 'resourceClaims', 'resources'),
  ...unused('runtimeClassName', 'schedulerName', 'schedulingGates', 'schedulingGroup', 'securityContext'),
  ...unused('serviceAccount', 'serviceAccountName', 'setHostnameAsFQDN', 'shareProcessNamespace', 'subdomain'),
  ...unused('tolerations', 'topologySpreadConstraints'),
})

export type Job = z.infer<typeof Job>
export const Job = z.strictObject({
  apiVersion: z.literal('batch.volcano.sh/v1alpha1'),
  kind: z.literal('Job'),
  metadata: z.strictObject({
    // A service of its name is made: RFC 1035.
    name: z
      .string()
      .regex(/^[a-z]([-a-z0-9]*[a-z0-9])?$/)
      .max(63),
    labels: z.record(text, label),
    annotations: z.record(text, text),
  }),
  spec: z.strictObject({
    minAvailable: z.number().int().min(0),
    schedulerName: z.string().max(63),
    queue: text,
    ttlSecondsAfterFinished: z.number().int().min(0),
    policies: z.array(Policy),
    plugins: z.record(text, z.array(text)),
    tasks: z
      .array(
        z.strictObject({
          name: z
            .string()
            .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/)
            .max(63),
          replicas: z.number().int().min(0),
          policies: z.array(Policy),
          template: z.strictObject({
            metadata: z.strictObject({ labels: z.record(text, label) }),
            spec: PodSpec,
          }),
          ...unused('dependsOn', 'maxRetry', 'minAvailable', 'partitionPolicy', 'topologyPolicy'),
        }),
      )
      .min(1),
    ...unused('maxRetry', 'minSuccess', 'networkTopology', 'priorityClassName', 'runningEstimate', 'volumes'),
  }),
})
