import { attentionWidths } from './memory-parameters.ts'
import type { SettledTraining } from './training-shape.ts'

/** Bytes of activations of one layer and one micro batch on one rank. */
export interface LayerActivations {
  /** Kept from the forward pass to the backward pass. */
  readonly kept: number
  /** Kept by a layer that is computed twice: its input. */
  readonly keptIfRecomputed: number
  /** The most that exists besides, while one layer is computed in either direction. */
  readonly working: number
}

/**
 * Activations of one layer, counted tensor by tensor as autograd keeps them.
 *
 * Kept, in bytes per token (h hidden, q and k widths of query and key, f feed-forward, a heads; `/t` cut by tp):
 * two norms' inputs, outputs and factors 8h + 8 (`/t` with sequence parallel), the fused QKV that V is a view of 2(q+2k)/t, query and
 * key after RoPE 2(q+k)/t, the attention's output 2q/t, flash attention's maxima and sums 64 a/t (two float32 of width 8
 * a head), the feed-forward layer 6f/t (8f/t where SwiGLU is not fused). With grouped queries legacy models copy key and
 * value to every head. Without flash attention the score matrices add 7 a s/t.
 *
 * Source: Korthikanti et al. 2022 (arXiv 2205.05198), section 4, whose 34 sbh is GELU's with dropout; here SwiGLU's and
 * without dropout. Megatron-LM core_r0.6.0, legacy/model/transformer.py:470-780; npu_fusion_attention of torch_npu.
 */
export function layerActivations(training: SettledTraining): LayerActivations {
  const { model, tp, cp, microBatchSize, sequenceParallel, flashAttention, fusedKernels, recompute } = training
  const { hiddenSize: h, numAttentionHeads } = model
  const sequence = training.seqLength / cp
  const tokens = sequence * microBatchSize
  const { query, keyValue } = attentionWidths(model, tp)
  const heads = numAttentionHeads / tp
  const ffn = model.ffnHiddenSize / tp
  const cutByTp = sequenceParallel ? tp : 1
  const copiedHeads = keyValue < query ? 2 * (2 * query - keyValue) : 0
  const matrices = heads * training.seqLength
  // Selective recomputation drops what the attention core keeps of its own; with flash attention that is little.
  const core = recompute === 'selective' ? 0 : flashAttention ? 64 * heads : 7 * matrices
  const attention = 2 * (query + 2 * keyValue) + 2 * (query + keyValue) + copiedHeads + 2 * query + core
  const kept = ((fusedKernels ? 8 : 16) * h + 8) / cutByTp + attention + (fusedKernels ? 6 : 8) * ffn
  const lora = training.lora === undefined ? 0 : 8 * training.lora
  // Full-width tensors around the cut ones (gathered input, output before it is reduced, its gradient), then the
  // gradients of the feed-forward layer or of the attention, float32 in the fused kernel's workspace.
  const attentionWork = flashAttention ? 16 * query : 14 * matrices
  const working = 6 * h + Math.max(8 * ffn, attentionWork)
  return {
    kept: tokens * (kept + lora),
    keptIfRecomputed: (tokens * 2 * h) / cutByTp,
    working: tokens * working,
  }
}

/**
 * Bytes around the loss on the last stage: logits in bf16, in float32 and their softmax, and the last norm.
 * Large for vocabularies of 150,000. Source: Megatron-LM core_r0.6.0, legacy/model/gpt_model.py:24-44 (`output.float()`),
 * core/tensor_parallel/cross_entropy.py:17-80.
 */
export function lossActivations(training: SettledTraining): number {
  const { model, tp, cp, microBatchSize, sequenceParallel, paddedVocabSize } = training
  const tokens = (training.seqLength / cp) * microBatchSize
  const norm = (4 * model.hiddenSize) / (sequenceParallel ? tp : 1)
  const gathered = sequenceParallel ? 2 * model.hiddenSize : 0
  return tokens * ((10 * paddedVocabSize) / tp + norm + gathered)
}

/**
 * Bytes of one micro batch's inputs: token ids, labels, positions (int64), loss mask (float32), attention mask (one
 * byte a pair of tokens). Source: Megatron-LM core_r0.6.0, megatron/training/utils.py, `get_batch_on_this_tp_rank`.
 */
export function inputBytes({ seqLength, cp, microBatchSize }: SettledTraining): number {
  return (microBatchSize * (28 * seqLength)) / cp + (seqLength * seqLength) / cp
}

/**
 * Layers whose activations a stage holds at once, over all micro batches in flight; `recomputed` of them only as inputs.
 *
 * 1F1B holds `pp − stage` micro batches; interleaving starts `2 (pp − stage − 1) + (chunks − 1) pp` chunks ahead.
 * Source: Megatron-LM core_r0.6.0, core/pipeline_parallel/schedules.py:499-519 and :1150-1157.
 */
export function layersInFlight(
  training: SettledTraining,
  stage: number,
): { readonly microBatches: number; readonly kept: number; readonly recomputed: number } {
  const { pp, chunks, microBatches } = training
  const layers = training.stageLayers(stage)
  const ahead = pp === 1 ? 1 : chunks === 1 ? pp - stage : (pp - stage - 1) * 2 + (chunks - 1) * pp + 1
  const inFlight = Math.min(ahead, microBatches * chunks)
  const perChunk = layers / chunks
  const twice = training.recompute === 'full' ? Math.min(perChunk, training.recomputeNumLayers) : 0
  return { microBatches: inFlight, kept: inFlight * (perChunk - twice), recomputed: inFlight * twice }
}
