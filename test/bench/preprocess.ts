import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import llamaTokenizer from 'llama-tokenizer-js'
import { loadTokenizer } from '../../src/data/tokenizer/tokenizer.ts'
import { type BenchCorpus, makeCorpus } from './preprocess-corpus.ts'
import { settle } from './settle.ts'

/** What a process says of itself at its end. */
interface Measurement {
  readonly tokens: number
  readonly cpuSeconds: number
  readonly peakBytes: number
  readonly seconds: number
  /** Of both files together. */
  readonly digest: string
}

interface Contender {
  readonly name: string
  readonly program: string
  readonly args: readonly string[]
  readonly workers: number
}

const targets = { python: 9, npm: 6, encodeOnly: 5, workers: 1.7, peakMegabytes: 400 }

/**
 * Preprocessing of one corpus by the built package with one thread and with two, by the npm package `tokenizers` driven
 * the obvious way, and by a Megatron-style script where a Python with transformers is found; taken in turns, whole
 * processes, medians. All must write the same bytes. Then tokenising alone: one thread of ours, all of the package's.
 *
 * Options: `--mb 200` size of the corpus (of 40, half of our time is the start), `--rounds 2`,
 * `--only llama2,llama3,qwen`, `--contenders ours1,ours2,npm,python`, `--python PATH`, `--tokenizers FOLDER` with
 * `NAME/tokenizer.json`, `--folder FOLDER` to keep the corpus in.
 */
export async function bench(): Promise<void> {
  const options = readOptions()
  const corpus = await makeCorpus(options.mb, options.folder)
  console.log(`preprocess, ${(corpus.bytes / 1e6).toFixed(0)} MB of JSON lines, ${describe(corpus)}`)
  const python = await findPython(options.python)
  if (!python) console.log('  no Python with transformers and numpy: no Megatron-style script (--python PATH)')
  const scratch = await mkdtemp(join(tmpdir(), 'ascendflow-bench-'))
  try {
    for (const name of options.only) {
      const tokenizerDir = await findTokenizer(name, { folder: options.tokenizers, scratch })
      if (!tokenizerDir) {
        console.log(`${name}: no ${join(options.tokenizers, name, 'tokenizer.json')} (--tokenizers FOLDER)`)
        continue
      }
      await compare({ name, tokenizerDir, corpus, scratch, python, ...options })
      if (options.mb <= 200) await compareEncoding(tokenizerDir, { corpus, rounds: options.rounds })
    }
  } finally {
    await rm(scratch, { recursive: true })
  }
}

function readOptions() {
  const { values } = parseArgs({
    args: process.argv.slice(3),
    options: {
      mb: { type: 'string', default: '200' },
      rounds: { type: 'string', default: '2' },
      only: { type: 'string', default: 'llama2,llama3,qwen' },
      contenders: { type: 'string', default: 'ours1,ours2,npm,python' },
      python: { type: 'string' },
      tokenizers: { type: 'string', default: here('../../../shared/data/tokenizers') },
      folder: { type: 'string', default: join(tmpdir(), 'ascendflow-bench-corpus') },
    },
  })
  const { only, contenders, mb, rounds } = values
  return { ...values, mb: Number(mb), rounds: Number(rounds), only: only.split(','), contenders: contenders.split(',') }
}

function describe({ bytes, distinctBytes, chineseBytes }: BenchCorpus): string {
  const times = bytes / distinctBytes
  const again = times > 1.05 ? `, so that they come ${times.toFixed(1)} times` : ''
  const chinese = `${(chineseBytes / 1e6).toFixed(1)} MB of them Chinese`
  const hint = chineseBytes < 2e6 ? ' (more with the package manpages-zh)' : ''
  return `from ${(distinctBytes / 1e6).toFixed(0)} MB of distinct paragraphs${again}, ${chinese}${hint}`
}

async function compare(work: {
  readonly name: string
  readonly tokenizerDir: string
  readonly corpus: BenchCorpus
  readonly scratch: string
  readonly python: string | undefined
  readonly rounds: number
  readonly contenders: readonly string[]
}): Promise<void> {
  const { name, tokenizerDir, corpus, scratch, python, rounds } = work
  const { eosId } = await loadTokenizer(tokenizerDir)
  const known: Record<string, Contender | undefined> = {
    ours1: { name: 'ours, 1 thread', program: process.execPath, args: [here('preprocess-ours.mjs')], workers: 1 },
    ours2: { name: 'ours, 2 threads', program: process.execPath, args: [here('preprocess-ours.mjs')], workers: 2 },
    npm: { name: 'npm tokenizers', program: process.execPath, args: [here('preprocess-npm.mjs')], workers: 2 },
    python: python ? { name: 'Megatron-style', program: python, args: [here('preprocess.py')], workers: 2 } : undefined,
  }
  const contenders = work.contenders.flatMap(key => known[key] ?? [])
  const found = new Map<Contender, Measurement[]>(contenders.map(contender => [contender, []]))
  for (let round = 0; round < rounds; round++) {
    for (const contender of contenders) {
      const out = join(scratch, 'out')
      await mkdir(out)
      const job = { file: corpus.file, tokenizerDir, eosId, workers: contender.workers }
      await settle([corpus.file], 4e9)
      const into = contender.name.startsWith('ours') ? out : join(out, 'data')
      found.get(contender)?.push(await measure(contender, { ...job, out: into }))
      await rm(out, { recursive: true })
    }
  }
  console.log(name)
  const medians = new Map([...found].map(([contender, all]) => [contender.name, median(all)]))
  const ours = medians.get('ours, 2 threads') ?? medians.get('ours, 1 thread')
  for (const [contender, of] of medians) {
    const ratio = ours && of !== ours ? `${(of.seconds / ours.seconds).toFixed(2)}x our time` : ''
    const speed = `${(corpus.bytes / 1e6 / of.seconds).toFixed(1)} MB/s`.padStart(11)
    const tokens = `${(of.tokens / 1e6 / of.seconds).toFixed(2)} Mtokens/s`.padStart(16)
    const cpu = `${of.cpuSeconds.toFixed(1)} CPU s`.padStart(13)
    const memory = `${Math.round(of.peakBytes / 1e6)} MB`.padStart(9)
    console.log(`  ${contender.padEnd(16)}${speed}${tokens}${cpu}${memory}  ${ratio}`)
  }
  const digests = new Set([...found.values()].flat().map(({ digest }) => digest))
  console.log(digests.size === 1 ? '  all wrote the same bytes' : `  THE FILES DIFFER: ${digests.size} kinds`)
  if (digests.size > 1) process.exitCode = 1
  const { python: megatron, npm, workers, peakMegabytes } = targets
  console.log(`  targets: ${megatron}x Megatron-style, ${npm}x npm, ${workers}x with 2 threads, ${peakMegabytes} MB`)
}

async function measure({ program, args }: Contender, job: object): Promise<Measurement> {
  const started = process.hrtime.bigint()
  const { stdout } = await promisify(execFile)(program, [...args, JSON.stringify(job)], { maxBuffer: 1 << 24 })
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  const { prefix, ...said } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}')
  const hash = createHash('sha256')
  for (const extension of ['idx', 'bin'])
    await pipeline(createReadStream(`${prefix}.${extension}`), hash, { end: false })
  return { ...said, seconds, digest: hash.digest('hex') }
}

/** Texts in memory, from the first on, in a process that has encoded nothing before. */
async function compareEncoding(
  tokenizerDir: string,
  { corpus, rounds }: { corpus: BenchCorpus; rounds: number },
): Promise<void> {
  for (const onlyChinese of [false, true]) {
    const rates: Record<'ours' | 'npm', number[]> = { ours: [], npm: [] }
    const counts = new Set<number>()
    for (let round = 0; round < rounds; round++) {
      for (const who of ['ours', 'npm'] as const) {
        const job = JSON.stringify({ who, file: corpus.file, tokenizerDir, onlyChinese, bytes: 20e6 })
        const args = ['--import', 'tsx', here('preprocess-encode.ts'), job]
        const { stdout } = await promisify(execFile)(process.execPath, args)
        const { bytes, tokens, seconds } = JSON.parse(stdout)
        if (bytes > 0) rates[who].push(bytes / 1e6 / seconds)
        counts.add(tokens)
      }
    }
    if (rates.ours.length === 0) continue
    const [ours, npm] = [middle(rates.ours), middle(rates.npm)]
    const what = onlyChinese ? 'Chinese text' : 'whole text'
    const rate = `${ours.toFixed(1)} MB/s in 1 thread, npm tokenizers ${npm.toFixed(1)} MB/s in all`
    const target = `${(ours / npm).toFixed(2)}x (target ${targets.encodeOnly}x)`
    console.log(`  tokenising only, ${what}: ${rate}: ${target}${counts.size > 1 ? ', COUNTS DIFFER' : ''}`)
  }
}

function median(of: readonly Measurement[]): Measurement {
  const [first] = of
  const pick = (key: 'seconds' | 'cpuSeconds' | 'peakBytes') => middle(of.map(each => each[key]))
  return { ...first!, seconds: pick('seconds'), cpuSeconds: pick('cpuSeconds'), peakBytes: pick('peakBytes') }
}

function middle(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!
}

/** The folder of a tokenizer; that of Llama 2 is made of the package llama-tokenizer-js where it is not given. */
async function findTokenizer(
  name: string,
  { folder, scratch }: { folder: string; scratch: string },
): Promise<string | undefined> {
  if (existsSync(join(folder, name, 'tokenizer.json'))) return join(folder, name)
  if (name !== 'llama2') return undefined
  const { vocabById, merges } = llamaTokenizer
  const special = vocabById.slice(0, 3).map((content, id) => ({
    ...{ id, content, special: true, normalized: false, single_word: false, lstrip: false, rstrip: false },
  }))
  const json = {
    ...{ version: '1.0', truncation: null, padding: null, added_tokens: special, pre_tokenizer: null, decoder: null },
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    post_processor: {
      ...{ type: 'TemplateProcessing', pair: [] },
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    model: {
      ...{ type: 'BPE', dropout: null, unk_token: '<unk>', continuing_subword_prefix: null, end_of_word_suffix: null },
      ...{ fuse_unk: true, byte_fallback: true },
      vocab: Object.fromEntries(vocabById.map((token, id) => [token, id])),
      merges: [...merges.entries()].sort(([, a], [, b]) => a - b).map(([pair]) => pair),
    },
  }
  const made = join(scratch, name)
  await mkdir(made, { recursive: true })
  await writeFile(join(made, 'tokenizer.json'), JSON.stringify(json))
  await writeFile(join(made, 'tokenizer_config.json'), JSON.stringify({ tokenizer_class: 'LlamaTokenizer' }))
  return made
}

async function findPython(given: string | undefined): Promise<string | undefined> {
  const candidates = [given, process.env.ASCENDFLOW_PYTHON, here('../../.venv/bin/python')]
  const found = candidates.find(path => path !== undefined && path !== '' && existsSync(path)) ?? 'python3'
  return promisify(execFile)(found, ['-c', 'import numpy, transformers']).then(
    () => found,
    () => undefined,
  )
}

function here(file: string): string {
  return fileURLToPath(new URL(file, import.meta.url))
}
