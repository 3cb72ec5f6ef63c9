import { hostname } from 'node:os'
import type { ErrorPlace } from './error-messages.ts'
import type { Tool } from './tool.ts'

/** Where a process stands in its training, from what torchrun tells it. */
export interface TrainingPlace extends ErrorPlace {
  readonly node: number
  readonly nodes: number
  readonly world: number
  readonly address: string
  readonly port: number
  /** How long nodes wait for each other: `HCCL_CONNECT_TIMEOUT`, 120 s without. */
  readonly timeoutMs: number
}

/** Without torchrun the only process of the only node. */
export function trainingPlace({ env, pid }: Pick<Tool, 'env' | 'pid'>): TrainingPlace {
  const number = (name: string, otherwise: number) => Number(env[name] ?? otherwise)
  return {
    ...{ pid, host: hostname(), rank: number('RANK', 0), localRank: number('LOCAL_RANK', 0) },
    ...{ node: number('GROUP_RANK', 0), nodes: number('GROUP_WORLD_SIZE', 1), world: number('WORLD_SIZE', 1) },
    ...{ address: env.MASTER_ADDR ?? '127.0.0.1', port: number('MASTER_PORT', 29_500) },
    timeoutMs: 1000 * number('HCCL_CONNECT_TIMEOUT', 120),
  }
}
