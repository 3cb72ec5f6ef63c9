import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { toUSVString } from 'node:util'
import { Tokenizer as HuggingFaceTokenizer } from 'tokenizers'
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer/tokenizer.ts'

/** Loads a tokenizer from these files of a folder of its own. */
export async function loadFrom(files: Readonly<Record<string, unknown>>): Promise<Tokenizer> {
  const folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
  try {
    for (const [name, content] of Object.entries(files)) {
      const isWritten = typeof content === 'string' || content instanceof Uint8Array
      await writeFile(join(folder, name), isWritten ? content : JSON.stringify(content))
    }
    return await loadTokenizer(folder)
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** Texts that the Rust library of Hugging Face encodes to other ids than `ours`: none, when all is well. */
export async function differences(ours: Tokenizer, { json, texts }: { json: unknown; texts: readonly string[] }) {
  const theirs = HuggingFaceTokenizer.fromString(JSON.stringify(json))
  const found: { text: string; ours: number[]; theirs: number[] }[] = []
  for (const addSpecialTokens of [true, false]) {
    const wanted = await theirs.encodeBatch(texts.map(toUSVString), { addSpecialTokens })
    texts.forEach((text, i) => {
      const [a, b] = [[...ours.encode(text, { addSpecialTokens })], wanted[i]?.getIds() ?? []]
      if (a.join() !== b.join()) found.push({ text, ours: a, theirs: b })
    })
  }
  return found.slice(0, 3)
}
