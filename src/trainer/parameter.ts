/**
 * One tensor of the model, as views into the engine's shared memory: write to load, read to save, between calls only.
 *
 * Base weights have Hugging Face's names and row order. Adapters are `layers.{i}.{target}.lora_A.weight` [r, in] and
 * `….lora_B.weight` [out, r], with Megatron's rows at tp 1 (qkv fused per query group, fc1 gate then up).
 * All zero in a new engine, except norm weights, which are one.
 */
export interface Parameter {
  readonly name: string
  readonly shape: readonly number[]
  readonly trainable: boolean
  /** Whether weight decay applies; as in Megatron not to vectors (norms, biases). */
  readonly decay: boolean
  readonly weight: Float32Array
  /** What `accumulate` added since the last update; absent when frozen, like both moments of AdamW. */
  readonly gradient?: Float32Array
  readonly firstMoment?: Float32Array
  readonly secondMoment?: Float32Array
}
