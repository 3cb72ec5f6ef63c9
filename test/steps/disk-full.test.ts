import { execFileSync } from 'node:child_process'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { corpus, hfModel, hfToMegatron, preprocess, run } from 'ascendflow'
import { openTorchFile } from 'ascendflow/formats'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeModel } from '../../examples/quickstart/make-model.ts'
import { newFolder } from '../engine/steps.ts'

const dir = await newFolder()
const disk = join(dir, 'disk')

/** A disk of 1 MB, where the system lets us mount one. */
const mounted = await (async () => {
  await mkdir(disk)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

describe.skipIf(!mounted)('a disk that is full', () => {
  beforeAll(() => makeModel(join(dir, 'model')))
  afterAll(() => void execFileSync('umount', [disk]))

  it('fails the step, says so with the place and what to do, and leaves nothing half-written', async () => {
    const target = hfToMegatron({ model: hfModel(join(dir, 'model')), parallel: { tp: 2, pp: 2 } })
    const error = await run(target, { store: join(disk, 'store') }).catch(caught => caught)
    expect([error.code, error.cause.code]).toEqual(['step-failed', 'ENOSPC'])
    expect(error.message).toMatch(
      /^hfToMegatron: no space is left on the device \(.*hfToMegatron-.*\)\. Make room and run/,
    )
    const left = await readdir(disk, { recursive: true })
    expect(left.filter(name => /\.tmp|saving|latest_checkpointed/.test(name))).toEqual([])
    // Finished shards may be there, to go on from: PyTorch's files are whole, or they cannot be opened.
    for (const name of left.filter(name => name.endsWith('.pt'))) await (await openTorchFile(join(disk, name))).close()
    await rm(join(disk, 'store'), { recursive: true })
  })

  it.each<{ validation?: number }>([{}, { validation: 0.1 }])(
    'fails preprocess with %j alike, in whatever file it happens',
    async options => {
      const row = JSON.stringify({ text: 'The quick brown fox jumps over the lazy dog. '.repeat(20) })
      // About as many bytes of ids as the disk has, so that it is full while they are gathered, or while they are arranged.
      for (const rows of [300, 500, 700, 3000]) {
        await writeFile(join(dir, 'rows.jsonl'), `${row}\n`.repeat(rows))
        const target = preprocess({
          corpus: corpus(join(dir, 'rows.jsonl')),
          tokenizer: hfModel(join(dir, 'model')),
          ...options,
        })
        const store = join(disk, `preprocess-${rows}-${Object.keys(options).length}`)
        const error = await run(target, { store }).then(
          () => undefined,
          caught => caught,
        )
        if (rows === 3000) expect(error).toBeDefined()
        if (error) expect([error.code, error.cause.code]).toEqual(['step-failed', 'ENOSPC'])
        const left = (await readdir(store, { recursive: true })).map(name => basename(name))
        const datasets = left.filter(name => /\.(idx|bin)$/.test(name)).map(name => name.slice(0, -4))
        // Encoded rows and validation data may be there, whole, to go on from.
        expect(datasets.filter(name => datasets.indexOf(name) === datasets.lastIndexOf(name))).toEqual([])
        expect(left.filter(name => /\.tmp$/.test(name))).toEqual([])
        expect(left.includes('report.json') && datasets.includes('data_text_document')).toBe(error === undefined)
        await rm(store, { recursive: true })
      }
    },
  )
})
