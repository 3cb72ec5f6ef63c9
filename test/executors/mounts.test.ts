import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Word } from 'ascendflow'
import { beforeAll, describe, expect, it } from 'vitest'
import { mountsOf } from '../../src/executors/docker/mounts.ts'

let dir: string
const at = (...names: string[]) => join(dir, ...names)
const mounts = (...argv: Word[]) =>
  mountsOf({ argv, nodes: 1, devicesPerNode: 0 }).map(({ path, readOnly }) => `${path} ${readOnly ? 'ro' : 'rw'}`)

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'mounts-'))
  await mkdir(at('data', 'deep'), { recursive: true })
  await mkdir(at('data-2'))
  await writeFile(at('data', 'text.bin'), '')
})

describe('mounts', () => {
  const cases: [string, () => Word[], () => string[]][] = [
    ['a file that is read', () => [{ read: at('data', 'text.bin') }], () => [`${at('data', 'text.bin')} ro`]],
    ['the folder of a path that begins file names', () => [{ read: at('data', 'text') }], () => [`${at('data')} ro`]],
    ['a folder that is written', () => [{ write: at('data') }], () => [`${at('data')} rw`]],
    ['the folder of a file that is written', () => [{ write: at('data', 'text.bin') }], () => [`${at('data')} rw`]],
    ['the folder to come of a file in it', () => [{ write: at('new', 'x') }], () => [`${at('new')} rw`]],
    [
      'read and written once, writable',
      () => [{ read: at('data') }, { write: at('data') }],
      () => [`${at('data')} rw`],
    ],
    [
      'nothing for what lies in another',
      () => [{ read: at('data', 'deep') }, { read: at('data') }],
      () => [`${at('data')} ro`],
    ],
    [
      'nothing for what is read in a written one',
      () => [{ read: at('data', 'deep') }, { write: at('data') }],
      () => [`${at('data')} rw`],
    ],
    [
      'a written one in a read one',
      () => [{ write: at('data', 'deep') }, { read: at('data') }],
      () => [`${at('data')} ro`, `${at('data', 'deep')} rw`],
    ],
    [
      'both of two whose names begin alike',
      () => [{ read: at('data') }, { read: at('data-2') }],
      () => [`${at('data')} ro`, `${at('data-2')} ro`],
    ],
    ['nothing for words that are no paths', () => ['/etc/passwd', 3, { node: 'rank' }], () => []],
  ]
  it.each(cases)('are made of %s', (_, words, expected) => {
    expect(mounts(...words())).toEqual(expected())
  })

  it('refuse to cover what an image is made of', () => {
    for (const word of [{ write: '/out' }, { write: '/usr/x' }, { read: '/etc' }, { read: '/' }])
      expect(() => mounts(word)).toThrow('cannot be mounted')
  })

  it('refuse what is not there to be read', () => {
    expect(() => mounts({ read: at('no', 'such', 'file') })).toThrow('neither it nor its folder is there')
  })
})
