/** A throughput that ModelLink's authors measured, with the setting of the script that it belongs to. */
export interface PublishedThroughput {
  /** A supported model's name. */
  readonly model: string
  readonly devices: number
  readonly tp: number
  readonly pp: number
  readonly layersPerVirtualStage?: number
  readonly seqLength: number
  readonly microBatchSize: number
  readonly globalBatchSize: number
  readonly distributedOptimizer?: true
  readonly tokensPerSecondPerDevice: number
}

type Sizes = readonly [devices: number, tp: number, pp: number, layersPerVirtualStage?: number]
type Batch = readonly [seqLength: number, microBatchSize: number, globalBatchSize: number]

/**
 * Measured on Atlas 900 A2 PoDc (`devices.snt9b`), bf16 (glm3-6b: fp16), pretraining, for models of the guide.
 * Source: ModelLink 809c6320, README.md (table of throughputs; cluster sizes from there) and the examples' pretraining scripts.
 */
export const publishedThroughputs: readonly PublishedThroughput[] = [
  measured('llama2-7b', [8, 1, 2], [4096, 1, 256], 4200, true),
  measured('llama2-13b', [8, 8, 1], [4096, 4, 512], 1990),
  measured('llama2-70b', [32, 8, 4, 5], [4096, 1, 1024], 420),
  measured('llama3-8b', [8, 8, 1], [8192, 2, 64], 2483),
  measured('llama3-70b', [64, 8, 8], [8192, 1, 512], 283),
  measured('qwen-7b', [8, 8, 1], [8192, 2, 64], 2499),
  measured('qwen-14b', [8, 8, 1], [2048, 4, 64], 1560),
  measured('qwen-72b', [128, 8, 8], [8192, 1, 512], 285),
  measured('qwen1.5-7b', [8, 8, 1], [8192, 2, 64], 2862),
  measured('qwen1.5-14b', [8, 4, 2], [8192, 1, 256], 1717),
  measured('qwen1.5-32b', [32, 8, 4, 2], [8192, 1, 64], 751),
  measured('qwen1.5-72b', [64, 8, 8, 2], [8192, 1, 64], 301),
  measured('yi-34b', [16, 8, 2], [4096, 2, 1024], 809),
  measured('glm3-6b', [8, 1, 2], [8192, 1, 128], 4297, true),
  measured('baichuan2-13b', [8, 8, 1], [4096, 2, 128], 1668),
]

function measured(
  model: string,
  [devices, tp, pp, layersPerVirtualStage]: Sizes,
  [seqLength, microBatchSize, globalBatchSize]: Batch,
  tokensPerSecondPerDevice: number,
  distributedOptimizer?: true,
): PublishedThroughput {
  return {
    model,
    devices,
    tp,
    pp,
    ...(layersPerVirtualStage === undefined ? {} : { layersPerVirtualStage }),
    seqLength,
    microBatchSize,
    globalBatchSize,
    ...(distributedOptimizer ? { distributedOptimizer } : {}),
    tokensPerSecondPerDevice,
  }
}
