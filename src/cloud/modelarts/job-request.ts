import { z } from 'zod'

const name = z.string().regex(/^[\w-]{1,64}$/, "up to 64 letters, digits, '_' and '-'")
const variable = z
  .string()
  .regex(/^[A-Za-z_]\w*$/, "a letter or '_', then letters, digits and '_'")
  .max(8192)
const variables = z
  .record(
    variable,
    z
      .string()
      .max(4096)
      .regex(/^[^$]*$/, "no '$': the service refuses it"),
  )
  .refine(all => Object.keys(all).length <= 100, 'at most 100 variables')
const obsFolder = z.string().regex(/^\/[^/]+\/(.*\/)?$/, "a folder as '/bucket/folder/'")
const volume = z.union([
  z.strictObject({
    nfs: z.strictObject({
      nfs_server_path: z.string().regex(/^[^\s:]+:\/\S*$/, "an export as 'address:/path'"),
      local_path: z.string().startsWith('/'),
      read_only: z.boolean().optional(),
    }),
  }),
  z.strictObject({
    pfs: z.strictObject({ pfs_path: z.string().startsWith('/'), local_path: z.string().startsWith('/') }),
  }),
  z.strictObject({
    obs: z.strictObject({ obs_path: z.string().startsWith('/'), local_path: z.string().startsWith('/') }),
  }),
])

/**
 * A training job as it is asked for: the fields that a custom image with a command of its own needs, and no others.
 *
 * Source: schema and limits of ModelArts' `POST /v2/{project_id}/training-jobs` (Huawei's Python SDK, `Job`, and the
 * API reference of the Open Telekom Cloud).
 */
export const JobRequest = z.strictObject({
  kind: z.literal('job'),
  metadata: z.strictObject({
    name,
    workspace_id: z.string().optional(),
    description: z.string().max(256).optional(),
    annotations: z.record(z.string(), z.string()).optional(),
  }),
  algorithm: z.strictObject({
    /** `organisation/image:tag` in the region's SWR, without the registry's host. */
    engine: z.strictObject({ image_url: z.string().min(1) }),
    command: z.string().min(1),
    environments: variables.optional(),
    parameters: z.array(z.never()).optional(),
    inputs: z.array(z.never()).optional(),
    outputs: z.array(z.never()).optional(),
  }),
  spec: z.strictObject({
    resource: z.strictObject({
      pool_id: z.string().optional(),
      flavor_id: z.string().optional(),
      node_count: z.number().int().positive(),
    }),
    volumes: z.array(volume).optional(),
    log_export_path: z.strictObject({ obs_url: obsFolder }).optional(),
    schedule_policy: z
      .strictObject({ priority: z.number().int().min(1).max(3).optional(), preemptible: z.boolean().optional() })
      .optional(),
    auto_stop: z.strictObject({ time_unit: z.literal('HOURS'), duration: z.number().int().positive() }).optional(),
  }),
})

export type JobRequest = z.output<typeof JobRequest>
export type Volume = z.output<typeof volume>
