import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { findInputs } from '../../src/data/find-inputs.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function put(...names: string[]) {
  for (const name of names) {
    await mkdir(join(folder, name, '..'), { recursive: true })
    await writeFile(join(folder, name), '')
  }
}

/** Names within the folder, instead of paths. */
async function find(...paths: string[]) {
  const { files, leftOut } = await findInputs(paths.map(path => join(folder, path)))
  const name = (file: string) => file.slice(folder.length + 1)
  return { files: files.map(name), leftOut: leftOut.map(name) }
}

test('one path is as good as a list of one', async () => {
  await put('a.txt')
  expect(await findInputs(join(folder, 'a.txt'))).toEqual({ files: [join(folder, 'a.txt')], leftOut: [] })
})

describe('a folder', () => {
  test('gives the files of the extension that most have, sorted by their bytes; json and jsonl compete', async () => {
    await put('b.jsonl', 'a.jsonl', 'B.jsonl', 'é.jsonl', 'z.jsonl', 'c.json', 'd.json', 'x.md', 'y.md', '.z.jsonl')
    await put('deeper/a.jsonl')
    expect(await find('')).toEqual({
      files: ['B.jsonl', 'a.jsonl', 'b.jsonl', 'z.jsonl', 'é.jsonl'],
      leftOut: ['c.json', 'd.json', 'x.md', 'y.md'],
    })
  })

  test('of other files gives nothing, however many there are', async () => {
    await put('1.bin', '2.bin', 'a.PARQUET')
    expect((await find('')).files).toEqual(['a.PARQUET'])
  })

  test('gives compressed files by their inner extension, too', async () => {
    await put('a.jsonl.gz', 'b.jsonl.gz', 'c.jsonl', 'd.tar.gz', 'e.parquet.gz')
    expect(await find('')).toEqual({
      files: ['a.jsonl.gz', 'b.jsonl.gz'],
      leftOut: ['c.jsonl', 'd.tar.gz', 'e.parquet.gz'],
    })
  })

  test('gives the first extension by name where as many files have another', async () => {
    await put('a.txt', 'b.csv')
    expect((await find('')).files).toEqual(['b.csv'])
  })

  test('with links in a loop, to nothing and to itself gives what is there', async () => {
    await put('a.txt')
    await symlink('loop-b.txt', join(folder, 'loop-a.txt'))
    await symlink('loop-a.txt', join(folder, 'loop-b.txt'))
    await symlink('nowhere.txt', join(folder, 'dangling.txt'))
    await symlink('.', join(folder, 'self'))
    expect(await find('')).toEqual({ files: ['a.txt'], leftOut: [] })
    expect((await find('**/*.txt')).files).toEqual(['a.txt'])
  })
})

test('a pattern gives all files that can be read, sorted', async () => {
  await put('b/2.json', 'a/1.jsonl', 'a/2.md', 'c.txt')
  expect(await find('*/*')).toEqual({ files: ['a/1.jsonl', 'b/2.json'], leftOut: ['a/2.md'] })
})

test('a file whose name reads as a pattern is a file', async () => {
  await put('[a].txt', 'a.txt')
  expect((await find('[a].txt')).files).toEqual(['[a].txt'])
})

test('a list keeps its order, and each file comes once', async () => {
  await put('b.txt', 'a/1.txt', 'a/2.txt')
  await symlink('b.txt', join(folder, 'again.txt'))
  expect((await find('b.txt', 'a', 'a/1.txt', 'again.txt')).files).toEqual(['b.txt', 'a/1.txt', 'a/2.txt'])
})

describe('what leads to nothing says what is there', () => {
  test.each([
    [
      'missing.txt',
      /missing\.txt does not exist\. Rows are read from files with \.json, \.jsonl, \.csv, \.txt, \.arrow/,
    ],
    ['x.md', /x\.md is a file with another extension/],
    ['empty', /empty leads to no files/],
    ['mixed', /mixed leads to 6 files that are not read: .*1\.md.*5\.md, …/],
    ['*.md', /\*\.md leads to 1 files that are not read: .*x\.md/],
    ['*.txt', /\*\.txt leads to no files/],
    ['x.md/a.txt', /does not exist/],
  ])('%s', async (path, message) => {
    await put('x.md', ...Array.from({ length: 6 }, (_, i) => `mixed/${i + 1}.md`))
    await mkdir(join(folder, 'empty'))
    await expect(find(path)).rejects.toThrow(message)
    await expect(find(path)).rejects.toMatchObject({ code: 'invalid-input', field: 'files' })
  })

  test('an empty list', async () => {
    await expect(findInputs([])).rejects.toMatchObject({ code: 'invalid-input' })
  })
})
