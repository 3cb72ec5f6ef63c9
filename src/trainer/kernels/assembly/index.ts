export { attention, attentionBackward, scratchBytes } from './attention'
export { addBias, embed, embedBackward, sumRows, swiglu, swigluBackward } from './elementwise'
export { gemm } from './gemm'
export { crossEntropy } from './loss'
export { rmsNorm, rmsNormBackward, rmsNormWeightBackward } from './norm'
export { adamw, copy, sumSquares, zero } from './optimizer'
export { rope, ropeBackward, ropeTables } from './rope'

/** First byte after the compiler's own tables (of log, sin, …), which must not be overwritten. */
export function heapBase(): usize {
  return __heap_base
}
