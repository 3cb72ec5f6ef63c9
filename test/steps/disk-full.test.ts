import { execFileSync } from 'node:child_process'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { hfModel, hfToMegatron, run } from 'ascendflow'
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
    expect(left.filter(name => /\.pt|\.tmp|saving|latest_checkpointed/.test(name))).toEqual([])
  })
})
