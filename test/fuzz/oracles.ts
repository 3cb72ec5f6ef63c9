import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Tokenizer } from 'tokenizers'

/** Something that knows the right ids. */
export interface Oracle {
  encode(texts: readonly string[], addSpecialTokens: boolean): Promise<readonly (readonly number[])[]>
  close(): void
}

/** The Rust library of Hugging Face, on a tokenizer.json. */
export function rustOracle(json: string): Oracle {
  const tokenizer = Tokenizer.fromString(json)
  return {
    async encode(texts, addSpecialTokens) {
      const encodings = await tokenizer.encodeBatch([...texts], { addSpecialTokens })
      return encodings.map(encoding => encoding.getIds())
    },
    close: () => {},
  }
}

/**
 * A Python library: `kind` is sentencepiece, qwen or glm4 (tiktoken with the model's pattern) on a file, or class, which
 * is what transformers makes of a folder. @throws Error when Python or the library is not there.
 */
export async function pythonOracle(python: string, kind: string, path: string): Promise<Oracle> {
  const program = fileURLToPath(new URL('./oracle.py', import.meta.url))
  const child = spawn(python, [program, kind, path], { stdio: ['pipe', 'pipe', 'pipe'] })
  let complaint = ''
  child.stderr.on('data', part => {
    complaint = `${complaint}${part}`.slice(-2000)
  })
  child.stdin.on('error', () => {})
  const failed = once(child, 'close').then(() => {
    throw new Error(`${python} ended: ${complaint.trim().split('\n').at(-1)}`)
  })
  failed.catch(() => {})
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const nextLine = async () => {
    const { value, done } = await Promise.race([lines.next(), failed])
    return done ? failed : (value as string)
  }
  await nextLine()
  return {
    async encode(texts, addSpecialTokens) {
      child.stdin.write(`${JSON.stringify({ texts, addSpecialTokens })}\n`)
      return JSON.parse(await nextLine()) as number[][]
    },
    close: () => child.stdin.end(),
  }
}
