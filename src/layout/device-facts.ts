/** What a plan must know of a device, one NPU. */
export interface DeviceFacts {
  readonly name: string
  /** Memory that PyTorch reports as its total capacity, in bytes: less than the chip has, the driver keeps some. */
  readonly usableBytes: number
  /** Dense matrix products in bf16, in floating-point operations per second. */
  readonly peakFlops: number
  /** Devices of one node. */
  readonly perNode: number
  /** Bytes per second to devices of the same node, one direction. */
  readonly nodeBandwidth: number
  /** Bytes per second to devices of other nodes, one direction. */
  readonly networkBandwidth: number
  /** Where the numbers come from. */
  readonly sources: readonly string[]
}

const GiB = 2 ** 30

/** Devices of ModelArts by their name there. Any other device is one such record. */
export const devices = {
  /** Ascend 910B, 64 GB: the device of the training guide (Atlas 800T A2 nodes). */
  snt9b: {
    name: 'Ascend snt9b 64 GB',
    usableBytes: 60.97 * GiB,
    peakFlops: 313e12,
    perNode: 8,
    nodeBandwidth: 196e9,
    networkBandwidth: 25e9,
    sources: [
      'memory: "60.97 GiB total capacity", vllm-project/vllm-ascend issue 1987',
      'Atlas 800T A2: 8 NPUs, 2.5 PFLOPS FP16, HCCS 392 GB/s both ways, 200GE RoCE a NPU; product page of Huawei',
    ],
  },
  /** Ascend 910B4, 32 GB. */
  snt9b32gb: {
    name: 'Ascend snt9b 32 GB',
    usableBytes: 29.5 * GiB,
    peakFlops: 280e12,
    perNode: 8,
    nodeBandwidth: 196e9,
    networkBandwidth: 25e9,
    sources: [
      'memory: "29.50 GiB total capacity", hiyouga/LlamaFactory issue 4277',
      'peak: 910B4, 280 TFLOPS FP16, as reported by its users; links as snt9b',
    ],
  },
  /** One die of an Ascend 910C, which ModelArts counts as one device: 16 a node. */
  snt9b23: {
    name: 'Ascend snt9b23 die 64 GB',
    usableBytes: 60.97 * GiB,
    peakFlops: 376e12,
    perNode: 16,
    nodeBandwidth: 196e9,
    networkBandwidth: 25e9,
    sources: [
      'memory and peak: 128 GB and 752 TFLOPS BF16 for two dies, Serving Large Language Models on Huawei CloudMatrix384 (arXiv 2506.12708); usable memory taken as of snt9b',
      'links: taken as of snt9b, which is less than the super node has',
    ],
  },
} as const satisfies Readonly<Record<string, DeviceFacts>>
