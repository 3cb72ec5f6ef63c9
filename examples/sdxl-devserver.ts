// A service on a bare NPU node: look whether it is ready, start the SDXL web UI on a free device, draw a picture.
// SDXL_HOST is the node's name; run it on the node, or give `run` an executor that reaches it (`on: ssh({ … })`).
import { plan, prepareNode, run } from 'ascendflow'
import { serve } from './sdxl/serve.ts'
import { textToImage } from './sdxl/text-to-image.ts'

const image =
  process.env.SDXL_IMAGE ??
  'swr.cn-southwest-2.myhuaweicloud.com/atelier/pytorch_2_1_ascend:pytorch_2.1.0-cann_7.0.0-py_3.9-hce_2.0.2312-aarch64-snt9b-20240312154948-219655b'
const store = process.env.ASCENDFLOW_STORE ?? '.ascendflow'
const port = Number(process.env.SDXL_PORT ?? 8183)

const node = prepareNode({ image, devicesPerNode: 1 })
const server = serve({ node, image, host: process.env.SDXL_HOST ?? '127.0.0.1', port })
const picture = textToImage({ server, prompt: 'a dog' })

console.log(`${await plan(picture, { store })}\n`)

const { path } = await run(picture, { store })
console.log(path)
