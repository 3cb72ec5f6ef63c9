// Compares our tokenizers with the libraries whose ids they must give, on random text.
//
//   npx tsx test/fuzz/tokenizers.ts [--count 200000] [--seed 1] [--only NAME] [--python python3] [--folder DIR]…
//
// It takes the small tokenizers of test/data/golden, and those of each model folder in each DIR: tokenizer.json against
// npm's `tokenizers`; tokenizer.model and ranks against Python's sentencepiece and tiktoken; a folder that brings a class
// of its own (tokenization_*.py) against that class, run by transformers. It ends with 1 where any text differs.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, toUSVString } from 'node:util'
import { isTiktoken } from '../../src/data/tokenizer/tiktoken.ts'
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer/tokenizer.ts'
import { fuzzTexts } from '../data/fuzz-text.ts'
import { loadFrom } from '../data/oracle.ts'
import { type Oracle, pythonOracle, rustOracle } from './oracles.ts'

interface Family {
  readonly name: string
  readonly load: () => Promise<Tokenizer>
  /** Whether both put special tokens around a text. */
  readonly addSpecialTokens: boolean
  /** What a text must not have, because only one of both knows it. */
  readonly leftOut?: RegExp
  readonly oracle: () => Promise<Oracle>
}

/** Texts that are made, encoded and compared at a time. */
const batchSize = 5000

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '200000' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
    python: { type: 'string', default: 'python3' },
    folder: { type: 'string', multiple: true, default: [] },
  },
})

const golden = fileURLToPath(new URL('../data/golden', import.meta.url))
const bare = { tokenizer_class: 'BaichuanTokenizer', bos_token: null, eos_token: null, unk_token: null }

function jsonFamily(name: string, file: string): Family {
  const json = readFileSync(file, 'utf8')
  return {
    name: `${name} (tokenizer.json)`,
    load: () => loadFrom({ 'tokenizer.json': json }),
    addSpecialTokens: true,
    oracle: async () => rustOracle(json),
  }
}

function modelFamily(name: string, file: string): Family {
  return {
    name: `${name} (sentencepiece)`,
    load: () =>
      loadFrom({ 'tokenizer.model': readFileSync(file), 'tokenizer_config.json': { ...bare, add_bos_token: false } }),
    addSpecialTokens: false,
    oracle: () => pythonOracle(values.python, 'sentencepiece', file),
  }
}

function ranksFamily(name: string, { file, kind }: { file: string; kind: 'qwen' | 'glm4' }): Family {
  const tokenizer_class = kind === 'qwen' ? 'QWenTokenizer' : 'ChatGLM4Tokenizer'
  return {
    name: `${name} (tiktoken, ${kind})`,
    load: () =>
      loadFrom({
        [kind === 'qwen' ? 'qwen.tiktoken' : 'tokenizer.model']: readFileSync(file),
        'tokenizer_config.json': { tokenizer_class, eos_token: null },
      }),
    addSpecialTokens: false,
    leftOut: /<\||\[g?s?MASK\]|<[se]op>/,
    oracle: () => pythonOracle(values.python, kind, file),
  }
}

function folderFamilies(folder: string): Family[] {
  const name = basename(folder)
  const has = (file: string) => existsSync(join(folder, file))
  const families: Family[] = has('tokenizer.json') ? [jsonFamily(name, join(folder, 'tokenizer.json'))] : []
  if (readdirSync(folder).some(file => /^tokenization_.*\.py$/.test(file))) {
    families.push({
      name: `${name} (its own class)`,
      load: () => loadTokenizer(folder),
      addSpecialTokens: true,
      oracle: () => pythonOracle(values.python, 'class', folder),
    })
  } else if (has('qwen.tiktoken')) {
    families.push(ranksFamily(name, { file: join(folder, 'qwen.tiktoken'), kind: 'qwen' }))
  } else if (has('tokenizer.model')) {
    const file = join(folder, 'tokenizer.model')
    const isRanks = isTiktoken(readFileSync(file).subarray(0, 1024))
    families.push(isRanks ? ranksFamily(name, { file, kind: 'glm4' }) : modelFamily(name, file))
  }
  return families
}

function goldenFamilies(): Family[] {
  const pieces = join(golden, 'sentencepiece')
  const models = readdirSync(pieces).filter(file => file.endsWith('.model'))
  const ranks = join(pieces, 'ranks.tiktoken')
  return [
    ...readdirSync(join(golden, 'tokenizers')).map(name =>
      jsonFamily(name, join(golden, 'tokenizers', name, 'tokenizer.json')),
    ),
    ...models.map(file => modelFamily(file.replace('.model', ''), join(pieces, file))),
    ranksFamily('ranks', { file: ranks, kind: 'qwen' }),
    ranksFamily('ranks', { file: ranks, kind: 'glm4' }),
  ]
}

/** Texts of the tokens, and more often than their share those that are special somewhere. */
function wordsOf(tokenizer: Tokenizer): string[] {
  const texts = Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.decode([id]))
  const words = texts.filter(text => text !== '' && !text.includes('\ufffd'))
  const special = texts.filter(text => /^<.*>$|^\[.*\]$|^[se]op$/.test(text)).slice(-300)
  const times = Math.ceil(words.length / 100 / (special.length + 1))
  return [...words, ...Array.from({ length: times }, () => special).flat()]
}

/** Fuzzes one family: how many texts differ. */
async function fuzz(family: Family, limits: { count: number; seed: number }): Promise<number> {
  const oracle = await family.oracle()
  try {
    return await compare(family, oracle, limits)
  } finally {
    oracle.close()
  }
}

async function compare(
  family: Family,
  oracle: Oracle,
  { count, seed }: { count: number; seed: number },
): Promise<number> {
  const tokenizer = await family.load()
  const notOurs = tokenizer.adjustments.find(line => line.startsWith('Encoded by the package'))
  if (notOurs !== undefined) throw new Error(notOurs)
  const isWanted = (text: string) => !family.leftOut?.test(text)
  const words = wordsOf(tokenizer).filter(isWanted)
  let [done, different, characters, longest] = [0, 0, 0, 0]
  for (let batch = 0; done < count; batch++) {
    const batchSeed = Math.imul(seed + batch, 0x9e3779b1)
    const texts = fuzzTexts(Math.min(batchSize, count - done), { seed: batchSeed, words }).filter(isWanted)
    done += texts.length
    const wanted = await oracle.encode(texts.map(toUSVString), family.addSpecialTokens)
    texts.forEach((text, i) => {
      characters += text.length
      longest = Math.max(longest, text.length)
      const found = tokenizer.encode(text, { addSpecialTokens: family.addSpecialTokens })
      const expected = wanted[i] ?? []
      if (found.length === expected.length && found.every((id, at) => id === expected[at])) return
      if (++different > 3) return
      print(`  ${JSON.stringify(text).slice(0, 300)}\n    ours  ${[...found].slice(0, 40)}`)
      print(`    their ${[...expected].slice(0, 40)}`)
    })
  }
  const size = `${(characters / 1e6).toFixed(1)} M characters, the longest ${longest}`
  print(`${family.name}: ${done} strings (${size}), ${different} differences`)
  return different
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

const folders = values.folder.flatMap(folder =>
  readdirSync(folder).some(file => /^tokenizer\.(json|model)$|^qwen\.tiktoken$/.test(file))
    ? [folder]
    : readdirSync(folder, { withFileTypes: true })
        .filter(entry => entry.isDirectory())
        .map(entry => join(folder, entry.name))
        .sort(),
)
const families = [...(values.folder.length > 0 ? [] : goldenFamilies()), ...folders.flatMap(folderFamilies)]
const chosen = families.filter(({ name }) => name.includes(values.only ?? ''))
if (chosen.length === 0)
  print(`No family is called ${values.only}. There are: ${families.map(f => f.name).join(', ')}.`)
let different = 0
for (const family of chosen) {
  try {
    different += await fuzz(family, { count: Number(values.count), seed: Number(values.seed) })
  } catch (error) {
    different++
    print(`${family.name}: not compared: ${error instanceof Error ? error.message : error}`)
  }
}
if (different > 0 || chosen.length === 0) process.exitCode = 1
