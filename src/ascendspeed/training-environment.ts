import type { Generation } from './generations.ts'

/**
 * Environment variables of a training job; those of the rendezvous are torchrun's.
 *
 * One connection is what sequence parallelism needs (Megatron refuses to start otherwise); the timeout, in seconds, is
 * what nodes may differ in getting ready. Source: the `export` lines of ModelLink's example scripts.
 */
export function trainingEnvironment(
  generation: Generation,
  { nodes }: { readonly nodes: number },
): Readonly<Record<string, string>> {
  return {
    CUDA_DEVICE_MAX_CONNECTIONS: '1',
    ...(generation === 'modellink-1.0'
      ? { NPU_ASD_ENABLE: '0' }
      : { PYTORCH_NPU_ALLOC_CONF: 'expandable_segments:True' }),
    ...(nodes > 1 ? { HCCL_CONNECT_TIMEOUT: '1800' } : {}),
  }
}
