import { z } from 'zod'
import type { NpuDevice } from './npu-smi.ts'

/** One thing looked at on a node: what was seen, and where it is not as it should be, what to do. */
export type NodeCheck = z.infer<typeof NodeCheck>
export const NodeCheck = z.object({
  name: z.enum([
    ...(['npu', 'driver', 'docker', 'ipForward', 'image', 'metadataBridge', 'metadataHost'] as const),
    ...(['disk', 'shared', 'clock', 'toolchain', 'python'] as const),
  ]),
  /** `warn`: jobs can run, something is better looked at. */
  state: z.enum(['ok', 'warn', 'fail']),
  seen: z.string(),
  advice: z.string().optional(),
  /** Commands that put it right, one after another, as argument lists for an administrator of the node. */
  fix: z.array(z.array(z.string())).optional(),
  /** Whether it is as it should be since those commands were run. */
  fixed: z.boolean().optional(),
})

const Device: z.ZodType<NpuDevice, NpuDevice> = z.object({
  npu: z.number(),
  chip: z.number(),
  phyId: z.number().exactOptional(),
  name: z.string(),
  health: z.string(),
  powerW: z.number().exactOptional(),
  temperatureC: z.number().exactOptional(),
  aiCorePercent: z.number().exactOptional(),
  hbmUsedMb: z.number().exactOptional(),
  hbmTotalMb: z.number().exactOptional(),
  processes: z.array(z.object({ pid: z.number(), name: z.string(), memoryMb: z.number().exactOptional() })),
  isFree: z.boolean(),
})

/** What was found on one node. */
export type NodeReport = z.infer<typeof NodeReport>
export const NodeReport = z.object({
  rank: z.number(),
  /** The node's own name. */
  host: z.string(),
  devices: z.array(Device),
  checks: z.array(NodeCheck),
})

/** What a node is to be prepared for. Paths are the node's own. */
export interface WantedNode {
  readonly devicesPerNode: number
  readonly image?: string | undefined
  readonly network: 'bridge' | 'host'
  readonly containerUid?: number | undefined
  readonly isMultiUser: boolean
  readonly dockerPackages: readonly string[]
  readonly disks: readonly { readonly path: string; readonly freeGb: number }[]
  readonly shared?: string | undefined
  readonly toolchain?: string | undefined
  readonly python: string
  readonly pythonPackages: readonly string[]
}
