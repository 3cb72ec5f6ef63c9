import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { defineStep } from 'ascendflow'
import { z } from 'zod'
import { Server } from './serve.ts'

const Answer = z.object({ images: z.array(z.base64()).min(1) })

/** Has a web UI's API draw a picture of a text. */
export const textToImage = defineStep({
  name: 'textToImage',
  version: 1,
  input: z.object({ server: Server, prompt: z.string().min(1), seed: z.number().int().default(1) }),
  output: z.object({ path: z.string() }),
}).run(async ({ server, prompt, seed }, { workDir, signal }) => {
  const response = await fetch(`${server.url}/sdapi/v1/txt2img`, {
    ...{ method: 'POST', headers: { 'content-type': 'application/json' }, signal },
    body: JSON.stringify({ prompt, seed }),
  })
  if (!response.ok)
    throw new Error(`${response.url} answered ${response.status}: ${(await response.text()).slice(0, 500)}`)
  const { images } = Answer.parse(await response.json())
  const path = join(workDir, 'picture.png')
  await writeFile(path, Buffer.from(images[0]!, 'base64'))
  return { path }
})
