// The obvious way with the npm package `tokenizers`: lines of JSON, a thousand at a time through encodeBatch.
import { createReadStream, createWriteStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { finished } from 'node:stream/promises'
import { Tokenizer } from 'tokenizers'

const { file, tokenizerDir, out, eosId } = JSON.parse(process.argv[2])
const tokenizer = Tokenizer.fromString(await readFile(join(tokenizerDir, 'tokenizer.json'), 'utf8'))
const prefix = `${out}_text_document`
const bin = createWriteStream(`${prefix}.bin`)
const lengths = []
let texts = []
let tokens = 0

async function encode() {
  for (const encoding of await tokenizer.encodeBatch(texts)) {
    const ids = Int32Array.from([...encoding.getIds(), eosId])
    bin.write(Buffer.from(ids.buffer))
    lengths.push(ids.length)
    tokens += ids.length
  }
  texts = []
}

for await (const line of createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY })) {
  const { text } = JSON.parse(line)
  if (text === '') continue
  texts.push(text)
  if (texts.length === 1000) await encode()
}
await encode()
bin.end()
await finished(bin)

const header = Buffer.alloc(34)
header.write('MMIDIDX\x00\x00', 'latin1')
header.writeBigUInt64LE(1n, 9)
header.writeUInt8(4, 17)
header.writeBigUInt64LE(BigInt(lengths.length), 18)
header.writeBigUInt64LE(BigInt(lengths.length + 1), 26)
const starts = new BigInt64Array(lengths.length)
let start = 0
for (const [i, length] of lengths.entries()) {
  starts[i] = BigInt(start)
  start += 4 * length
}
const documents = BigInt64Array.from({ length: lengths.length + 1 }, (_, i) => BigInt(i))
const idx = createWriteStream(`${prefix}.idx`)
for (const part of [header, Int32Array.from(lengths), starts, documents]) idx.write(part.buffer ? bytesOf(part) : part)
idx.end()
await finished(idx)

const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage()
console.log(
  JSON.stringify({ prefix, tokens, peakBytes: 1024 * maxRSS, cpuSeconds: (userCPUTime + systemCPUTime) / 1e6 }),
)

function bytesOf({ buffer, byteOffset, byteLength }) {
  return Buffer.from(buffer, byteOffset, byteLength)
}
