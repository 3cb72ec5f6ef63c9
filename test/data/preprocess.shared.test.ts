import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { preprocessCorpus } from '../../src/data/preprocess.ts'

const shared = fileURLToPath(new URL('../../../shared/', import.meta.url))
const list = join(shared, 'golden', 'preprocess', 'real.txt')

/** sha256 of the real tool's files, by case and file name. */
function readSums(): Map<string, Map<string, string>> {
  const cases = new Map<string, Map<string, string>>()
  let sums = new Map<string, string>()
  for (const line of readFileSync(list, 'utf8').split('\n')) {
    const name = /^(\S+) rc=0$/.exec(line)?.[1]
    if (name) {
      sums = new Map()
      cases.set(name, sums)
    }
    const [, sum, file] = /^([0-9a-f]{64}) {2}(\S+)$/.exec(line) ?? []
    if (sum && file) sums.set(file, sum)
  }
  return cases
}

describe.skipIf(!existsSync(list))('real rows and tokenizers give the files of the real tool', () => {
  for (const [name, sums] of existsSync(list) ? readSums() : []) {
    test(name, async () => {
      const folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
      try {
        const [tokenizer = '', kind] = name.split('-')
        const isSft = kind === 'sft'
        await preprocessCorpus({
          files: [join(shared, 'data', isSft ? 'alpaca_en_demo.json' : 'c4_demo.jsonl')],
          handler: isSft ? 'GeneralInstructionHandler' : 'GeneralPretrainHandler',
          tokenizerDir: join(shared, 'data', 'tokenizers', tokenizer),
          outputPrefix: join(folder, 'd'),
          appendEod: true,
          seqLength: isSft ? 256 : undefined,
        })
        const files = await readdir(folder)
        const found = files.map(
          file =>
            [
              file,
              createHash('sha256')
                .update(readFileSync(join(folder, file)))
                .digest('hex'),
            ] as const,
        )
        expect(new Map(found.sort())).toEqual(new Map([...sums].sort()))
      } finally {
        await rm(folder, { recursive: true })
      }
    })
  }
})
