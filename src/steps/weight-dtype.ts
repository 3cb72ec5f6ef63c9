import { z } from 'zod'
import type { FloatDtype } from '../formats/float-dtype.ts'

/** Stored type of weights, under the toolchain's names. */
export const WeightDtype = z.enum(['bf16', 'fp16', 'fp32'])

const stored = { bf16: 'BF16', fp16: 'F16', fp32: 'F32' } as const satisfies Record<string, FloatDtype>

/** The same type under its safetensors name; absent stays absent. */
export function storedDtype(dtype: z.infer<typeof WeightDtype> | undefined): FloatDtype | undefined {
  return dtype && stored[dtype]
}
