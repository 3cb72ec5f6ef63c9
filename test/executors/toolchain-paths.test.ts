import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, sep } from 'node:path'
import { kubernetes, type Launch } from 'ascendflow'
import { modelArts } from 'ascendflow/modelarts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generations } from '../../src/ascendspeed/generations.ts'
import { trainCommand } from '../../src/ascendspeed/training-arguments.ts'
import { isFlowError } from '../../src/errors.ts'
import { containerCommand } from '../../src/executors/docker/container-command.ts'
import { copiedFiles } from '../../src/executors/ssh/copied-files.ts'
import { nodeCommand } from '../../src/executors/ssh/node-command.ts'
import { models } from '../../src/models/supported-model.ts'
import { toolchainLaunch } from '../../src/steps/toolchain/toolchain-fields.ts'
import { toolchainWork, trainingOf, works } from '../ascendspeed/toolchain-work.ts'

/** One job of the toolchain, as the steps submit it, with all of its paths below a folder. */
interface Case {
  readonly name: string
  launchIn(root: string): Launch
}

/** 21 models × generations × kinds of work, and what goes on; in one generation also by the packaged scripts. */
const cases: readonly Case[] = models.flatMap(({ id }) =>
  generations.flatMap(generation => {
    const toolchain = { generation, dir: '/toolchain' }
    const scripted = { ...toolchain, scripts: { model: id } }
    const done = works.flatMap(work =>
      (generation === 'modellink-1.1' ? [toolchain, scripted] : [toolchain]).map(by => ({
        name: `${id}, ${generation}, ${work}${by === scripted ? ', scripts' : ''}`,
        launchIn: (root: string) => toolchainLaunch(toolchainWork(id, generation, work, root), { toolchain: by }),
      })),
    )
    const lora = { r: 16, alpha: 32, targets: ['linear_qkv'] as const }
    const goingOn = [{}, { lora, validation: { path: 'valid', evalInterval: 1, evalIters: 1 } }].map((more, i) => ({
      name: `${id}, ${generation}, going on ${i}`,
      launchIn: (root: string) => {
        const validation = 'validation' in more ? { ...more.validation, path: `${root}/data/valid` } : undefined
        const training = { ...trainingOf(id, generation, root), ...more, resume: true, validation }
        const extraArgs = ['--tensorboard-dir', { write: `${root}/curves` }]
        return toolchainLaunch(trainCommand(toolchain, training), { toolchain, extraArgs })
      },
    }))
    return [...done, ...goingOn].filter(({ launchIn }) => isMade(() => launchIn('/x')))
  }),
)

const made = new Map<string, Launch>()

/** The launch of a case, made once. */
function launchOf({ name, launchIn }: Case, root: string): Launch {
  const key = `${root} ${name}`
  const launch = made.get(key) ?? launchIn(root)
  made.set(key, launch)
  return launch
}

/** False for what the generation refuses, which other tests look at. */
function isMade(make: () => unknown): boolean {
  try {
    make()
    return true
  } catch (error) {
    if (!isFlowError(error)) throw error
    return false
  }
}

const pathsOf = ({ argv }: Launch, how: 'read' | 'write') =>
  argv.flatMap(word => (typeof word === 'object' && how in word ? [(word as Record<string, string>)[how]!] : []))

/** A folder of this machine with all that the commands read. */
let here: string
beforeAll(async () => {
  here = join(await mkdtemp(join(tmpdir(), 'paths-')), 'here')
  for (const file of [
    'data/alpaca',
    'data/alpaca_text_document.bin',
    'data/valid.bin',
    'hf/x',
    'mg/x',
    'lora/x',
    'save/x',
  ])
    await mkdir(dirname(join(here, file)), { recursive: true }).then(() => writeFile(join(here, file), ''))
})
afterAll(() => rm(dirname(here), { recursive: true, force: true }))

/** Each case as `seen` shows the job's nodes it must be the very command that is made for the paths as they see them. */
function expectSameAs(there: string, seen: (launch: Launch, root: string) => unknown): void {
  const commands = cases.map(one => {
    const command = JSON.stringify(seen(launchOf(one, here), here))
    expect(command, one.name).toBe(JSON.stringify(seen(launchOf(one, there), there)))
    return { name: one.name, command }
  })
  const isLocal = (command: string) => command.replaceAll(there, '').includes(here)
  expect(commands.filter(({ command }) => isLocal(command)).map(({ name }) => name)).toEqual([])
  expect(commands.filter(({ command }) => !command.includes(`${there}/`)).map(({ name }) => name)).toEqual([])
}

describe('paths of the toolchain, in every command and its environment,', () => {
  it('are of all models, generations and kinds of work', () => {
    expect(new Set(cases.map(({ name }) => name.split(',')[0])).size).toBe(21)
    for (const work of ['pretrain', 'sft', 'lora'])
      for (const generation of generations)
        expect(cases.filter(({ name }) => name.endsWith(`, ${generation}, ${work}`)).length).toBeGreaterThan(15)
    expect(cases.length).toBeGreaterThan(800)
  })

  it('are what ModelArts shows its containers, and nothing else is changed', () => {
    const credentials = { ak: 'AK', sk: 'SK' }
    expectSameAs('/there', (launch, root) => {
      const mounts = [{ local: root, at: '/there', nfs: '192.168.0.1:/' }]
      const executor = modelArts({ region: 'cn-north-4', projectId: 'p', credentials, image: 'org/image:1', mounts })
      return JSON.parse(executor.describe(launch)).algorithm.command
    })
  })

  it('are what Kubernetes shows its pods, and nothing else is changed', () => {
    expectSameAs('/there', (launch, root) => {
      const mounts = [{ path: root, mountPath: '/there', claim: 'share' }]
      const described = JSON.parse(kubernetes({ image: 'image:1', dialect: 'cce', mounts }).describe(launch))
      const job = described.items?.at(-1) ?? described
      const { command, env } = job.spec.tasks[0].template.spec.containers[0]
      return { command, env }
    })
  })

  it('are what hosts have over ssh, copied or shared, and nothing else is changed', () => {
    const folder = '/home/u/.ascendflow/jobs/0.job.files'
    expectSameAs(`${folder}${here}`, (launch, root) => {
      const hosts = Array.from({ length: launch.nodes }, (_, n) => ({ name: `node-${n}` }))
      const job = { id: 'job', hosts, folders: hosts.map(() => folder) }
      return hosts.map((_, rank) => nodeCommand(launch, { job, rank, sharedRoots: root === here ? [] : [root] }))
    })
    for (const one of cases) {
      const [name, launch] = [one.name, launchOf(one, here)]
      const { sent, fetched } = copiedFiles(launch, [])
      for (const path of pathsOf(launch, 'read'))
        expect(sent.some(file => file.startsWith(path)) || pathsOf(launch, 'write').includes(path), name).toBe(true)
      expect([...new Set(pathsOf(launch, 'write'))].sort(), name).toEqual([...fetched].sort())
      expect(copiedFiles(launch, [here]), name).toEqual({ sent: [], fetched: [] })
    }
  })

  it('are writable where the toolchain writes beside its instruction data', () => {
    for (const one of cases.filter(({ name }) => /, (sft|lora)$/.test(name)))
      expect(pathsOf(launchOf(one, here), 'write'), one.name).toContain(`${here}/data/alpaca`)
  })

  it('are mounted in containers under their own names, those that are written writable, and nothing else is', () => {
    for (const one of cases) {
      const [name, launch] = [one.name, launchOf(one, here)]
      const { args, mounts: all, env } = containerCommand(launch, { image: 'IMAGE' }, 'job')
      const words = launch.argv.map(word =>
        typeof word === 'object' && !('node' in word) ? Object.values(word)[0] : word,
      )
      const inside = args.slice(args.indexOf('IMAGE') + 4)
      for (const [i, word] of words.entries()) if (typeof word !== 'object') expect(inside[i], name).toBe(String(word))
      expect(Object.values(env).filter(value => value.includes(here))).toEqual([])
      const mounts = all.filter(mount => mount.path.startsWith(here))
      const covers = (outer: string, path: string) => path === outer || path.startsWith(outer + sep)
      const around = (path: string) => mounts.filter(mount => covers(mount.path, path)).at(-1)
      expect(
        pathsOf(launch, 'read').filter(path => !around(path)),
        name,
      ).toEqual([])
      expect(
        pathsOf(launch, 'write').filter(path => around(path)?.readOnly !== false),
        name,
      ).toEqual([])
      const used = [...pathsOf(launch, 'read'), ...pathsOf(launch, 'write')].map(around)
      expect(
        mounts.filter(mount => !used.includes(mount)),
        name,
      ).toEqual([])
    }
  })
})
