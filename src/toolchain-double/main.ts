// What a toolchain double has for `python` and `torchrun`.
// Arguments: the double's folder, the program's name, then the program's own.
import { appendFileSync, realpathSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { detectGeneration, generationFacts } from '../ascendspeed/generations.ts'
import { ArgparseError } from './argparse.ts'
import { errorMessages } from './error-messages.ts'
import type { ToolProgram } from './faults.ts'
import { faultAt, raise, type Tool } from './tool.ts'
import { torchrun } from './torchrun.ts'
import { trainingPlace } from './training-place.ts'

const [tree = '', program = '', ...words] = process.argv.slice(2)

const base = {
  ...{ tree, generation: detectGeneration(tree), env: process.env, pid: process.pid, script: '', faults: [] },
  print: line => void process.stdout.write(`${line}\n`),
  printError: line => void process.stderr.write(`${line}\n`),
  onTerminate: act => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => act(signal))
  },
  kill: () => {
    process.kill(process.pid, 'SIGKILL')
    throw new Error('killed')
  },
  hang: () => new Promise<never>(() => setInterval(() => {}, 2 ** 30)),
} satisfies Tool

process.exit(await (program === 'torchrun' ? torchrun(base, words) : python(words)))

/** `python [-u] SCRIPT …` and `python -m torch.distributed.launch …`. */
async function python(words: readonly string[]): Promise<number> {
  const [first, ...rest] = words
  if (first === '-u') return python(rest)
  if (first === '-m' && /^torch\.distributed\.(launch|run)$/.test(rest[0] ?? '')) return torchrun(base, rest.slice(1))
  if (first === '--version' || first === '-V') {
    base.print('Python 3.9.18')
    return 0
  }
  const called = programOf(first ?? '')
  if (first === undefined || called === undefined) {
    base.printError(`python: can't open file '${resolve(first ?? '')}': [Errno 2] No such file or directory`)
    return 2
  }
  return script(called, first, rest)
}

function programOf(script: string): ToolProgram | undefined {
  const facts = generationFacts[base.generation]
  const path = relative(realpathSync(tree), whereIs(script))
  const entries = { preprocess: [facts.preprocess], convert: [facts.convert], train: [facts.pretrain, facts.finetune] }
  return (Object.keys(entries) as ToolProgram[]).find(name => (entries[name] as string[]).includes(path))
}

function whereIs(script: string): string {
  try {
    return realpathSync(script)
  } catch {
    return resolve(script)
  }
}

async function script(called: ToolProgram, path: string, given: readonly string[]): Promise<number> {
  const place = trainingPlace(base)
  const { node, nodes } = called === 'train' ? place : { node: 0, nodes: 1 }
  const run = { program: called, argv: [path, ...given], node, pid: process.pid }
  appendFileSync(join(tree, '.double', 'runs.jsonl'), `${JSON.stringify(run)}\n`)
  const { takeFaults } = await import('./faults.ts')
  const faults = await takeFaults(tree, { program: called, node, nodes })
  const tool: Tool = { ...base, script: path, faults }
  const argv = faultAt(tool, 'argparse-error') ? [...given, '--injected-by-a-fault', '1'] : given
  try {
    if (faultAt(tool, 'hang-at-start')) await tool.hang()
    for (const kind of ['import-error', 'auth'] as const)
      if (faultAt(tool, kind)) return raise(tool, errorMessages[kind](place))
    if (faultAt(tool, 'early-exit') && called !== 'train') return 0
    switch (called) {
      case 'preprocess':
        return await (await import('./preprocessing.ts')).preprocessTool(tool, argv)
      case 'convert':
        return await (await import('./conversion.ts')).convertTool(tool, argv)
      case 'train':
        return await (await import('./training.ts')).trainTool(tool, argv)
    }
  } catch (error) {
    if (!(error instanceof ArgparseError)) return raise(tool, String(error instanceof Error ? error.stack : error))
    tool.printError(error.message)
    return 2
  }
}
