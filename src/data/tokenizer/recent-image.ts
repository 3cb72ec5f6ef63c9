import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { TokenizerImage } from './tokenizer-image.ts'

/** A plan and the run after it, or a run's check and its work, load a tokenizer once between them. */
const keptForMs = 10_000

interface Recent {
  readonly identity: string
  readonly image: Promise<TokenizerImage>
}

let recent: Recent | undefined
let forgetting: NodeJS.Timeout | undefined

/** What `load` gives for a folder: once, while its files stay as they are, if it is asked for again soon. */
export async function recentImage(folder: string, load: () => Promise<TokenizerImage>): Promise<TokenizerImage> {
  const identity = await identityOf(folder)
  if (recent?.identity !== identity) {
    const image = load()
    recent = { identity, image }
    image.catch(() => {
      if (recent?.image === image) recent = undefined
    })
  }
  clearTimeout(forgetting)
  forgetting = setTimeout(() => {
    recent = undefined
  }, keptForMs).unref()
  return recent.image
}

async function identityOf(folder: string): Promise<string> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const files = entries.filter(entry => !entry.isDirectory()).map(({ name }) => name)
  const stats = await Promise.all(
    files.sort().map(async name => {
      const found = await stat(join(folder, name)).catch(() => undefined)
      return `${name} ${found?.ino} ${found?.size} ${found?.mtimeMs}`
    }),
  )
  return [folder, ...stats].join('\n')
}
