// Encodes texts.json of the folder given (ids.json) and preprocesses plain.jsonl and instructions.jsonl there.
import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { corpus, hfModel, preprocess, run } from 'ascendflow'
import { loadTokenizer } from 'ascendflow/formats'
import { makeModel } from '../../examples/quickstart/make-model.ts'

const dir = process.argv[2]!
await makeModel(join(dir, 'model'))

const texts: readonly string[] = JSON.parse(await readFile(join(dir, 'texts.json'), 'utf8'))
const { encode, vocabSize, eosId } = await loadTokenizer(join(dir, 'model'))
const ids = {
  special: texts.map(text => [...encode(text)]),
  bare: texts.map(text => [...encode(text, { addSpecialTokens: false })]),
}
await writeFile(join(dir, 'ids.json'), JSON.stringify({ ...ids, vocabSize, eosId }))

const rows = { plain: 'GeneralPretrainHandler', instructions: 'GeneralInstructionHandler' } as const
for (const [name, handler] of Object.entries(rows) as [keyof typeof rows, (typeof rows)[keyof typeof rows]][]) {
  for (const variant of [{}, { appendEod: true, seqLength: 100 }]) {
    const input = { corpus: corpus(join(dir, `${name}.jsonl`)), tokenizer: hfModel(join(dir, 'model')), handler }
    const { path } = await run(preprocess({ ...input, ...variant }), { store: join(dir, 'store') })
    const prefix = `${name}${variant.appendEod ? '-eod' : ''}`
    const files = (await readdir(dirname(path))).filter(file => /\.(bin|idx)$/.test(file))
    for (const file of files) await copyFile(join(dirname(path), file), join(dir, `${prefix}-${basename(file)}`))
  }
}
