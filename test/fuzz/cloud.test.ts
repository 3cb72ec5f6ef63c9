import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runSchedule } from './cloud-schedule.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-fuzz-cloud-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('a job of ModelArts under random faults', () => {
  // 500 is one that writes nothing and is let go: the search once waited for its first line for ever.
  it.each([500, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])(
    'is created once, told whole and ends as it ended: schedule %i of seed 1',
    async index => {
      expect((await runSchedule(1_000_000 + index, { folder })).wrong).toEqual([])
    },
  )
})
