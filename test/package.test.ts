import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const { dependencies, optionalDependencies, engines, exports, files, license, scripts } = JSON.parse(
  read('package.json'),
)

describe('the package', () => {
  it('explains every dependency, and explains nothing that it does not have', () => {
    const explained = [...read('docs/dependencies.md').matchAll(/^\| `([^`]+)`/gm)].map(match => match[1])
    expect(explained.sort()).toEqual(Object.keys({ ...dependencies, ...optionalDependencies }).sort())
  })

  it('opens four doors, types first', () => {
    expect(Object.keys(exports)).toEqual(['.', './formats', './modelarts', './report', './testing', './package.json'])
    for (const door of ['.', './formats', './modelarts', './report', './testing'])
      expect(Object.keys(exports[door])[0]).toBe('types')
  })

  it('runs on Node 20.19 and later, and is licensed under Apache-2.0', () => {
    expect([engines.node, license, files]).toEqual([
      '>=20.19',
      'Apache-2.0',
      ['dist', 'README.md', 'LICENSE', 'CHANGELOG.md'],
    ])
  })

  it('has the commands that its README names', () => {
    for (const [, command] of read('README.md').matchAll(/npm run ([\w:]+)/g))
      expect(Object.keys(scripts)).toContain(command)
  })

  it('has lock file entries without the address of any registry', () => {
    expect(read('package-lock.json')).not.toContain('"resolved"')
  })

  it('links only to documents that exist', () => {
    const pages = [
      'README.md',
      'README.zh-CN.md',
      ...readdirSync(join(root, 'docs'))
        .filter(name => name.endsWith('.md'))
        .map(name => `docs/${name}`),
    ]
    const dead = pages.flatMap(page =>
      [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)]
        .map(match => join(root, page, '..', match[1]!))
        .filter(path => !existsSync(path))
        .map(path => `${page}: ${path}`),
    )
    expect(dead).toEqual([])
  })
})
