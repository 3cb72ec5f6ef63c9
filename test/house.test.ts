import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const src = fileURLToPath(new URL('../src', import.meta.url))

/** Each room and the floor it is on: imports go down, never up and never across, types included. */
const floors: Readonly<Record<string, number>> = {
  'errors.ts': 0,
  'job-failure.ts': 0,
  'process-identity.ts': 0,
  'program-path.ts': 0,
  'sent-error.ts': 0,
  flow: 1,
  layout: 1,
  formats: 1,
  models: 1,
  engine: 2,
  executors: 2,
  checkpoint: 2,
  data: 2,
  nodes: 2,
  trainer: 2,
  ascendspeed: 2,
  cloud: 2,
  report: 2,
  'cloud-double': 3,
  steps: 3,
  'toolchain-double': 3,
  'index.ts': 4,
  'formats.ts': 4,
  'modelarts.ts': 4,
  'report.ts': 4,
  'testing.ts': 4,
}

/** Doors between neighbours, each with its reason. */
const doors: Readonly<Record<string, string>> = {
  'program-path.ts → errors.ts': 'it throws',
  'errors.ts → job-failure.ts': 'a JobError says why its job failed',
  'sent-error.ts → errors.ts': 'it makes them anew',
  'flow → layout': 'a plan is told which devices to reckon with',
  'engine → executors': 'local() is where jobs run when nobody says otherwise',
  'executors → cloud': 'ModelArts is where jobs run',
  'trainer → checkpoint': 'it reads and writes Megatron shards',
  'trainer → ascendspeed': "it prints the toolchain's lines",
}

const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter(file => file.endsWith('.ts'))
  .filter(file => !file.includes(join('kernels', 'assembly')))
const roomOf = (file: string) => file.split('/')[0]!

const importsOf = (file: string) =>
  [
    ...readFileSync(join(src, file), 'utf8').matchAll(
      /(?:^|\n)\s*(?:import|export)[^'"\n]*(?:\{[^}]*\})?[^'"\n]*from\s+'([^']+)'|import\('([^']+)'\)/g,
    ),
  ].map(match => match[1] ?? match[2]!)
const inside = (file: string) =>
  importsOf(file)
    .filter(to => to.startsWith('.'))
    .map(to => relative(src, join(src, dirname(file), to)))

describe('the house', () => {
  it('has a floor for every room', () => {
    expect(files.map(roomOf).filter(room => floors[room] === undefined)).toEqual([])
  })

  it('imports only downwards, but for the doors listed here', () => {
    const wrong = files.flatMap(file =>
      inside(file).flatMap(to => {
        const [from, into] = [roomOf(file), roomOf(to)]
        if (from === into || floors[into]! < floors[from]! || doors[`${from} → ${into}`]) return []
        return [`${file} imports ${to}`]
      }),
    )
    expect(wrong).toEqual([])
  })

  it('has no door that nobody uses', () => {
    const used = new Set(files.flatMap(file => inside(file).map(to => `${roomOf(file)} → ${roomOf(to)}`)))
    expect(Object.keys(doors).filter(door => !used.has(door))).toEqual([])
  })

  it('has no circles', () => {
    const state = new Map<string, 'open' | 'done'>()
    const circles: string[] = []
    const visit = (file: string, path: readonly string[]) => {
      if (state.get(file) === 'done') return
      if (state.get(file) === 'open') return void circles.push([...path.slice(path.indexOf(file)), file].join(' → '))
      state.set(file, 'open')
      for (const to of inside(file)) visit(to, [...path, file])
      state.set(file, 'done')
    }
    for (const file of files) visit(file, [])
    expect(circles).toEqual([])
  })

  it('has no file of more than 300 lines but generated ones', () => {
    const long = files
      .filter(file => !file.endsWith('.generated.ts'))
      .filter(file => readFileSync(join(src, file), 'utf8').split('\n').length - 1 > 300)
    expect(long).toEqual([])
  })

  it('loads parquet, console and native libraries on first use only', () => {
    const heavy = ['hyparquet', 'hyparquet-compressors', 'cli-progress', '@kubernetes/client-node', '@node-rs/crc32']
    const early = files.flatMap(file => {
      const text = readFileSync(join(src, file), 'utf8')
      return heavy
        .filter(name => new RegExp(`^import (?!type)[^\\n]*from '${name}'`, 'm').test(text))
        .map(name => `${file}: ${name}`)
    })
    expect(early).toEqual([])
  })

  it('prints nothing and reads no environment, but for its programs', () => {
    const programs = ['trainer/main.ts', 'executors/local/job-wrapper.ts', 'toolchain-double/main.ts']
    const loud = files
      .filter(file => !programs.includes(file))
      .filter(file => /\bconsole\.\w|process\.stdout|process\.env\b/.test(readFileSync(join(src, file), 'utf8')))
    expect(loud).toEqual([])
  })
})
