import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeToolchainDouble, type ToolchainFault, toolchainFaults } from 'ascendflow/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { detectGeneration, type Generation, generations } from '../../src/ascendspeed/generations.ts'
import type { ToolchainCommand } from '../../src/ascendspeed/toolchain.ts'
import { hfToMegatron, makeWork, preprocess, runCommand, train } from './double-fixture.ts'

const works = new Map<Generation, Awaited<ReturnType<typeof makeWork>>>()

beforeAll(async () => {
  for (const generation of generations) works.set(generation, await makeWork(generation))
})
afterAll(() => Promise.all([...works.values()].map(work => work.forget())))

/** A command of the double of ModelLink 1.1, with words of its own after the script. */
async function called(
  program: 'preprocess' | 'convert' | 'train',
  args: readonly string[],
  generation: Generation = 'modellink-1.1',
) {
  const work = works.get(generation)!
  const make = { preprocess, convert: hfToMegatron, train }[program]
  const { argv, ...command }: ToolchainCommand = make(work)
  const script = argv.findIndex(word => typeof word === 'object' && 'read' in word)
  const ended = await runCommand(work, { ...command, argv: [...argv.slice(0, script + 1), ...args] })
  return { ...ended, usage: ended.err[0], error: ended.err.find(line => line.includes(': error: ')) }
}

describe('the double', () => {
  it.each(generations)('of %s looks like a checkout of it', generation => {
    expect(detectGeneration(works.get(generation)!.double.toolchain.dir)).toBe(generation)
  })

  it('notes what was called', async () => {
    const work = await makeWork('modellink-1.1')
    const args = ['--input', 'a b', "it's"]
    const { argv, ...command } = preprocess(work)
    await runCommand(work, { ...command, argv: [...argv.slice(0, 2), ...args] })
    const script = join(work.double.toolchain.dir, 'tools/preprocess_data.py')
    expect(await work.double.runs()).toMatchObject([{ program: 'preprocess', argv: [script, ...args], node: 0 }])
    await work.forget()
  })

  it('knows no other scripts', async () => {
    const { double } = works.get('modellink-1.1')!
    const { toolchain } = double
    const command = { argv: ['python3', '-u', 'evaluate.py'], dir: toolchain.dir, nodes: 1, devicesPerNode: 0 }
    const ended = await runCommand({ double }, { ...command, generation: 'modellink-1.1', parsers: [] })
    const path = join(toolchain.dir, 'evaluate.py')
    expect([ended.status, ended.err]).toEqual([
      2,
      [`python: can't open file '${path}': [Errno 2] No such file or directory`],
    ])
  })
})

/** From CPython's argparse. */
describe('a program of the double refuses', () => {
  it.each<['preprocess' | 'convert' | 'train', Generation, string, string]>([
    ['train', 'modellink-1.1', '--lr 1 --no-such 1 2', 'pretrain_gpt.py: error: unrecognized arguments: --no-such 1 2'],
    [
      'train',
      'modellink-1.1',
      '--prompt-type qwen',
      'pretrain_gpt.py: error: unrecognized arguments: --prompt-type qwen',
    ],
    ['train', 'modellink-1.1', '--train-it 5', 'pretrain_gpt.py: error: unrecognized arguments: --train-it 5'],
    [
      'train',
      'modellink-1.1',
      '--train-iters 1.5',
      "pretrain_gpt.py: error: argument --train-iters: invalid int value: '1.5'",
    ],
    ['train', 'modellink-1.1', '--lr x', "pretrain_gpt.py: error: argument --lr: invalid float value: 'x'"],
    ['train', 'modellink-1.1', '--load --bf16', 'pretrain_gpt.py: error: argument --load: expected one argument'],
    [
      'train',
      'modellink-1.1',
      '--data-path --bf16',
      'pretrain_gpt.py: error: argument --data-path: expected at least one argument',
    ],
    [
      'convert',
      'modellink-1.1',
      '--model-type GPT',
      'convert_ckpt.py: error: the following arguments are required: --load-dir, --save-dir',
    ],
    [
      'convert',
      'modellink-1.1',
      '--model-type GPT --loader llama2_hf --load-dir a --save-dir b --tokenizer-model t --tensor-model-parallel-size 2',
      'convert_ckpt.py: error: unrecognized arguments: --tensor-model-parallel-size 2',
    ],
    [
      'convert',
      'modellink-rc3',
      '--model-type GPT --load-model-type hf --save-model-type megatron --load-dir a --save-dir b --tokenizer-model t',
      "convert_ckpt.py: error: argument --save-model-type: invalid choice: 'megatron' (choose from 'mg', 'hf')",
    ],
    [
      'preprocess',
      'modellink-1.1',
      '--output-prefix a',
      'preprocess_data.py: error: the following arguments are required: --tokenizer-type',
    ],
    [
      'preprocess',
      'modellink-1.1',
      '--tokenizer x',
      'preprocess_data.py: error: ambiguous option: --tokenizer could match',
    ],
  ])('%s of %s: %s', async (program, generation, args, error) => {
    const ended = await called(program, args.split(' '), generation)
    expect([ended.usage, ended.error]).toEqual([
      expect.stringMatching(/^usage: \w+\.py \[-h\]/),
      expect.stringContaining(error),
    ])
    expect(ended.status).toBe(program === 'train' ? 1 : 2)
  })

  it('a plug-in that it has not', async () => {
    const { status, err } = await called('convert', ['--model-type', 'GPT', '--loader', 'hf'])
    expect([status, err]).toEqual([1, ['Unable to load loader plugin hf. Exiting.']])
  })
})

describe('preprocess_data.py of the double', () => {
  it('takes the start of a flag for the flag, and an unknown handler for the one for text', async () => {
    const work = works.get('modellink-1.1')!
    const { argv, ...command } = preprocess(work)
    const words = argv.map(word => (typeof word === 'object' && 'write' in word ? join(work.dir, 'short') : word))
    await runCommand(work, { ...command, argv: [...words, '--json-key', 'text', '--handler-name', 'NoSuchHandler'] })
    const golden = await readFile('test/data/golden/tiny/pre_text_document.bin')
    expect(await readFile(join(work.dir, 'short_text_document.bin'))).toEqual(golden)
  })

  it.each<[Generation, RegExp]>([
    ['modellink-1.1', /^FileNotFoundError: \[Errno 2\] No such file or directory: '\/nowhere\/x_text_document\.bin'$/],
    ['mindspeed-llm', /^ValueError: \/nowhere is not a directory or does not exist$/],
  ])('of %s makes no folder', async (generation, error) => {
    const work = works.get(generation)!
    const { argv, ...command } = preprocess(work)
    const words = argv.map(word => (typeof word === 'object' && 'write' in word ? '/nowhere/x' : word))
    const ended = await runCommand(work, { ...command, argv: words })
    expect([ended.status, ended.err.at(-1)]).toEqual([1, expect.stringMatching(error)])
  })
})

describe('a fault of the other programs', () => {
  it.each<['preprocess' | 'convert', ToolchainFault['kind'], number | null, RegExp]>([
    ['preprocess', 'disk-full', 1, /OSError: \[Errno 28\] No space left on device$/],
    ['preprocess', 'host-oom', null, /INFO:__main__:building dataset: /],
    ['preprocess', 'early-exit', 0, /^$/],
    ['preprocess', 'import-error', 1, /ImportError: libhccl\.so/],
    ['convert', 'saver-failure', 0, /sending output layer\n.*RuntimeError: shape mismatch/s],
    ['convert', 'disk-full', 0, /PytorchStreamWriter failed writing file data\/3: file write failed$/],
    ['convert', 'host-oom', null, /^Loaded loader_llama2_hf as the loader\./],
  ])('%s: %s ends with status %s', async (program, kind, status, text) => {
    const work = works.get('modellink-1.1')!
    await rm(join(work.dir, 'init'), { recursive: true, force: true })
    await work.double.inject({ kind })
    const ended = await runCommand(work, { preprocess, convert: hfToMegatron }[program](work))
    expect(ended.status).toBe(status)
    expect([...ended.out, ...ended.err].join('\n')).toMatch(text)
    if (program === 'convert') {
      expect(ended.out).not.toContain('Done!')
      expect(await readdir(join(work.dir, 'init')).catch(() => [])).not.toContain('latest_checkpointed_iteration.txt')
    }
  })

  it('a saver that dies leaves the loader waiting where the queue is too short', async () => {
    const work = works.get('modellink-1.1')!
    await work.double.inject({ kind: 'saver-failure' })
    const { argv, ...command } = hfToMegatron(work)
    const onLine = (line: string, pid: number) => {
      if (line.startsWith('RuntimeError')) process.kill(pid, 'SIGTERM')
    }
    const ended = await runCommand(work, { ...command, argv: [...argv, '--max-queue-size', 2] }, { onLine })
    expect(ended).toMatchObject({ status: null, signal: 'SIGTERM' })
  })
})

describe('the converter of the double', () => {
  it('says that it is done when it has not saved, for a word that it does not know', async () => {
    const work = works.get('modellink-1.1')!
    await rm(join(work.dir, 'init'), { recursive: true, force: true })
    const { argv, ...command } = hfToMegatron(work)
    const ended = await runCommand(work, { ...command, argv: [...argv, '--save-model-type', 'huggingface'] })
    expect([ended.status, ended.out.slice(-2)]).toEqual([0, ['Done!', 'Waiting for saver to complete...']])
    expect(await readdir(work.dir)).not.toContain('init')
  })

  it('stores fp16 where nothing else is said', async () => {
    const work = works.get('modellink-1.1')!
    const { argv, ...command } = hfToMegatron(work)
    const dtype = argv.indexOf('--params-dtype')
    await runCommand(work, { ...command, argv: argv.toSpliced(dtype, 2) })
    const shard = await readFile(join(work.dir, 'init/iter_0000001/mp_rank_00_000/model_optim_rng.pt'), 'latin1')
    expect(shard).toContain('HalfStorage')
  })
})

describe('inject', () => {
  it('lays faults down for as many runs as it is told, in their order', async () => {
    const work = works.get('modellink-1.0')!
    await work.double.inject({ kind: 'device-oom' })
    await work.double.inject({ kind: 'argparse-error' }, { times: 2 })
    await work.double.inject({ kind: 'auth' })
    const statuses = []
    for (let i = 0; i < 4; i++) statuses.push((await runCommand(work, preprocess(work))).status)
    expect(statuses).toEqual([2, 2, 1, 0])
    expect(await readdir(join(work.double.toolchain.dir, '.double/faults'))).toEqual(['000001.json'])
  })

  it.each<[ToolchainFault['kind'][], RegExp]>([
    [['saver-failure', 'loss-spike'], /No program has saver-failure and loss-spike in one run/],
    [['no-such' as never], /is no fault: faults\.0\.kind/],
  ])('refuses %j', async (kinds, message) => {
    const { double } = works.get('modellink-1.0')!
    await expect(double.inject(kinds.map(kind => ({ kind })))).rejects.toThrow(message)
  })

  it('knows the faults that are documented, and no other', async () => {
    const page = await readFile('docs/testing.md', 'utf8')
    const documented = [...page.matchAll(/^\| `([a-z-]+)` +\|/gm)].map(match => match[1])
    expect(documented.sort()).toEqual(Object.keys(toolchainFaults).sort())
  })

  it('can be done from the start, and beside other files in the folder', async () => {
    const dir = join(works.get('modellink-1.0')!.dir, 'another')
    await mkdir(dir)
    await writeFile(join(dir, 'README'), 'mine')
    const double = await makeToolchainDouble(dir, { generation: 'mindspeed-llm', faults: [{ kind: 'auth' }] })
    expect(await readdir(join(dir, '.double/faults'))).toEqual(['000001.json'])
    expect(await readFile(join(dir, 'README'), 'utf8')).toBe('mine')
    expect(double.env('/usr/bin').PATH).toBe(`${dir}/bin:/usr/bin`)
  })
})
