import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { corpus, local, preprocess, run } from 'ascendflow'
import { openMegatronCheckpoint } from 'ascendflow/formats'
import { describe, expect, it } from 'vitest'
import { failure, makeFixture, told } from './toolchain-fixture.ts'

describe('a job of the toolchain that ends with exit code 0', { timeout: 120_000 }, () => {
  it('and without datasets has failed, and is tried again', async () => {
    const fixture = await makeFixture('modellink-1.1')
    await fixture.double.inject({ kind: 'early-exit' })
    const { retries } = await told(fixture.steps.data, fixture)
    expect(retries).toEqual([expect.stringMatching(/ended with exit code 0, but .*data_packed_\w+_document.idx/)])
  })

  it('with no row kept has failed for good', async () => {
    const fixture = await makeFixture('modellink-1.1')
    const { dir, base, toolchain } = fixture
    await writeFile(join(dir, 'empty.jsonl'), '{"text": ""}\n')
    // No sequence, one entry of the document index: the layout is Megatron-LM's, indexed_dataset.py.
    const index = Buffer.alloc(42)
    index.write('MMIDIDX\0\0', 0, 'latin1')
    index.writeBigUInt64LE(1n, 9)
    index.writeUInt8(4, 17)
    index.writeBigUInt64LE(1n, 26)
    await writeFile(join(dir, 'empty.idx'), index)
    const script = `#!/bin/sh
while [ "$1" != --output-prefix ]; do shift; done
cp '${join(dir, 'empty.idx')}' "$2_text_document.idx"; : > "$2_text_document.bin"`
    await mkdir(join(dir, 'bin'))
    await writeFile(join(dir, 'bin', 'python'), script)
    await chmod(join(dir, 'bin', 'python'), 0o755)
    const data = preprocess({ corpus: corpus(join(dir, 'empty.jsonl')), tokenizer: base, toolchain })
    const npus = local({ env: { PATH: `${join(dir, 'bin')}:${process.env.PATH}` } })
    expect(await failure(data, { ...fixture, npus })).toMatch(/kept no row of .*empty.jsonl. Look at the columns/)
  })

  it('and whose saver died has failed, and nothing of it gets into the next attempt', async () => {
    const fixture = await makeFixture('modellink-1.1')
    await fixture.double.inject({ kind: 'saver-failure' })
    const { retries, output } = await told(fixture.steps.init, fixture)
    expect(retries).toEqual([expect.stringMatching(/holds no complete checkpoint of iteration 1/)])
    const { path } = output as { path: string }
    expect((await readdir(path)).sort()).toEqual(['iter_0000001', 'latest_checkpointed_iteration.txt'])
    const shards = await openMegatronCheckpoint(path)
    await shards.close()
  })

  it('before it trained at all has failed for good: it would do so again', async () => {
    const fixture = await makeFixture('modellink-1.1', { native: true })
    await fixture.double.inject({ kind: 'unreadable-checkpoint' })
    const message = await failure(fixture.steps.trained, fixture)
    expect(message).toMatch(/ended with exit code 0, but .* holds no complete checkpoint of iteration 6/)
    expect(await fixture.double.runs()).toHaveLength(1)
  })

  it('and was exported at another iteration than the one asked for is not started at all', async () => {
    const fixture = await makeFixture('modellink-1.1', { native: true, training: { trainIters: 2 } })
    const { path } = await run(fixture.steps.trained, { store: fixture.store, on: fixture.npus })
    await writeFile(join(path, 'latest_checkpointed_iteration.txt'), '1')
    expect(await failure(fixture.steps.hf, fixture)).toMatch(/the toolchain would load iteration 1, not 2/)
  })
})
