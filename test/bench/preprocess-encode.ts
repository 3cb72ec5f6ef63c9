// Tokenises texts that are in memory already, and says how long that took: once, with nothing cached or compiled before.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Tokenizer } from 'tokenizers'
import { loadTokenizer } from '../../src/data/tokenizer/tokenizer.ts'

interface Job {
  readonly who: 'ours' | 'npm'
  readonly file: string
  readonly tokenizerDir: string
  readonly onlyChinese: boolean
  readonly bytes: number
}

const { who, file, tokenizerDir, onlyChinese, bytes } = JSON.parse(process.argv[2] ?? '{}') as Job
const texts: string[] = []
let taken = 0
for (const line of readFileSync(file, 'utf8').split('\n')) {
  if (line === '' || taken >= bytes) break
  const { text } = JSON.parse(line) as { text: string }
  const paragraphs = onlyChinese ? text.split('\n\n').filter(isChinese) : [text]
  if (paragraphs.length === 0) continue
  texts.push(paragraphs.join('\n\n'))
  taken += Buffer.byteLength(texts.at(-1) ?? '')
}

const encode = await encoder()
const started = process.hrtime.bigint()
const tokens = await encode()
const seconds = Number(process.hrtime.bigint() - started) / 1e9
console.log(JSON.stringify({ bytes: taken, tokens, seconds }))

async function encoder(): Promise<() => number | Promise<number>> {
  if (who === 'ours') {
    const tokenizer = await loadTokenizer(tokenizerDir)
    // The tables are made when they are first needed; the package has them when it is loaded.
    tokenizer.encode('a')
    return () => texts.reduce((sum, text) => sum + tokenizer.encode(text).length, 0)
  }
  const tokenizer = Tokenizer.fromString(readFileSync(join(tokenizerDir, 'tokenizer.json'), 'utf8'))
  return async () => {
    let sum = 0
    for (let i = 0; i < texts.length; i += 1000) {
      for (const encoding of await tokenizer.encodeBatch(texts.slice(i, i + 1000))) sum += encoding.getLength()
    }
    return sum
  }
}

function isChinese(paragraph: string): boolean {
  return (paragraph.match(/\p{Script=Han}/gu)?.length ?? 0) > paragraph.length / 8
}
