import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createWriteStream, readdirSync, readFileSync } from 'node:fs'
import { mkdir, rename, stat, writeFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'

export interface BenchCorpus {
  readonly file: string
  readonly bytes: number
  /** Bytes of all paragraphs, each once; a longer corpus has them again, in another order. */
  readonly distinctBytes: number
  /** Of these, bytes of paragraphs that are Chinese for the most part. */
  readonly chineseBytes: number
}

/** Where text is on many machines: manuals, documentation, comments and readmes. */
const roots = [
  '/usr/share/man',
  '/usr/share/doc',
  '/usr/share/info',
  '/usr/share/perl',
  '/usr/lib/python3',
  '/usr/share/locale',
]
const packages = fileURLToPath(new URL('../../node_modules', import.meta.url))

/** Text that is read at most for paragraphs, and at most of it from one root: enough for variety. */
const maxDistinctBytes = 48e6

/**
 * A corpus of JSON lines with at least `megabytes` of text found on this machine: paragraphs, each once, put together to
 * documents of about 2 kB. Made once for each size and kept in `folder`.
 */
export async function makeCorpus(megabytes: number, folder: string): Promise<BenchCorpus> {
  const file = join(folder, `corpus-${megabytes}mb.jsonl`)
  const facts = `${file}.facts`
  try {
    const kept = JSON.parse(readFileSync(facts, 'utf8')) as BenchCorpus
    if ((await stat(file)).size === kept.bytes) return { ...kept, file }
  } catch {
    // Not made yet.
  }
  await mkdir(folder, { recursive: true })
  const { chinese, other } = gatherParagraphs()
  const paragraphs = [...chinese, ...other]
  const bytesOf = (texts: readonly string[]) => texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  const random = createRandom(1)
  const out = createWriteStream(`${file}.part`)
  let bytes = 0
  while (bytes < megabytes * 1e6) {
    shuffle(paragraphs, random)
    let document: string[] = []
    let length = 0
    for (const paragraph of paragraphs) {
      document.push(paragraph)
      length += paragraph.length
      if (length < 200 + 4000 * random()) continue
      const line = `${JSON.stringify({ id: bytes, text: document.join('\n\n'), source: 'bench' })}\n`
      bytes += Buffer.byteLength(line)
      if (!out.write(line)) await once(out, 'drain')
      if (bytes >= megabytes * 1e6) break
      document = []
      length = 0
    }
  }
  out.end()
  await once(out, 'close')
  await rename(`${file}.part`, file)
  const corpus = { file, bytes, distinctBytes: bytesOf(paragraphs), chineseBytes: bytesOf(chinese) }
  await writeFile(facts, JSON.stringify(corpus))
  return corpus
}

/** Paragraphs of at least 60 bytes, each once, in the order of the files' names. */
function gatherParagraphs(): { readonly chinese: readonly string[]; readonly other: readonly string[] } {
  const seen = new Set<string>()
  const chinese: string[] = []
  const other: string[] = []
  let bytes = 0
  const take = (text: string, onlyChinese = false) => {
    for (const part of text.split(/\n\s*\n|\0/)) {
      const paragraph = part.trim()
      if (paragraph.length < 20 || paragraph.length > 20_000 || paragraph.includes('\ufffd')) continue
      const isChinese = (paragraph.match(/\p{Script=Han}/gu)?.length ?? 0) > paragraph.length / 8
      if (onlyChinese && !isChinese) continue
      const key = createHash('sha1').update(paragraph).digest('base64')
      if (seen.has(key)) continue
      seen.add(key)
      ;(isChinese ? chinese : other).push(paragraph)
      if (!isChinese) bytes += Buffer.byteLength(paragraph)
    }
  }
  // Chinese first: there is little of it on most machines.
  for (const file of filesUnder('/usr/share/man').filter(file => /\/man\/zh/.test(file))) take(readText(file))
  for (const file of filesUnder('/usr/share/locale').filter(file => /\/zh_.*\.mo$/.test(file)))
    take(readText(file), true)
  for (const file of filesUnder(packages).filter(file => /zh|cn|chinese/i.test(file) && /\.(md|json|js)$/.test(file)))
    take(readText(file), true)
  for (const root of [...roots, packages]) {
    const limit = bytes + maxDistinctBytes / 3
    for (const file of filesUnder(root)) {
      if (bytes >= limit || bytes >= maxDistinctBytes) break
      if (isTextFile(file)) take(readText(file))
    }
  }
  return { chinese, other }
}

function isTextFile(file: string): boolean {
  if (file.includes('/locale/')) return false
  const name = file.replace(/\.gz$/, '')
  return (
    /\.(md|txt|rst|html?|py|pl|pm|pod|tex|\d[a-z]*)$/.test(name) ||
    /\/(README|NEWS|changelog|copyright)[^/]*$/i.test(name)
  )
}

/** Text of a file that may be compressed; that of a manual page without its macros. */
function readText(file: string): string {
  try {
    const bytes = readFileSync(file)
    if (bytes.length > 8e6) return ''
    const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8')
    if (!file.includes('/man/')) return extname(file) === '.html' ? text.replace(/<[^>]*>/g, ' ') : text
    return text
      .replace(/^['.]\\".*$/gm, '')
      .replace(/^[.'](PP|P|sp|LP|SH|SS|TP|IP).*$/gm, '\n')
      .replace(/^[.'][A-Za-z]+ ?/gm, '')
      .replace(/\\f[A-Z]|\\&/g, '')
      .replace(/\\-/g, '-')
  } catch {
    // Not for us to read, or a link to nothing.
    return ''
  }
}

function filesUnder(root: string): readonly string[] {
  try {
    return readdirSync(root, { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile())
      .map(entry => join(entry.parentPath, entry.name))
      .sort()
  } catch {
    return []
  }
}

function shuffle<T>(items: T[], random: () => number): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[items[i], items[j]] = [items[j] as T, items[i] as T]
  }
}

/** Numbers from 0 to 1, the same each time. Source: mulberry32. */
function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
