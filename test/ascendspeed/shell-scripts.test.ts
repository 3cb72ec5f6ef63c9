import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type ShellWork, shellScripts } from '../../src/ascendspeed/shell-scripts.ts'
import type { Word } from '../../src/flow/launch.ts'
import { toolchainWork } from './toolchain-work.ts'

const execute = promisify(execFile)

/** Words that a shell would like to do something with. */
const hostile = [
  ...[
    '',
    ' ',
    '$(touch hit)',
    '`touch hit`',
    '$HOME',
    `\${IFS}`,
    "it's",
    '"',
    '\\',
    '\\n',
    'a\nb',
    '\n',
    '\t',
    '!!',
    '!',
  ],
  ...[
    '*',
    '?',
    '[a]',
    '{a,b}',
    '~',
    '~root',
    '#',
    'a#b',
    '; touch hit',
    '& touch hit',
    '| cat',
    '> hit',
    '< /etc/passwd',
  ],
  ...[
    'a=b',
    '-',
    '--',
    '-e',
    '%s',
    '$1',
    '$@',
    "'; touch hit; '",
    "'\\''",
    '中文',
    '\u2028',
    '\u00a0',
    'é',
    '\x07',
    '\r',
  ],
  ...['--lr', '$(touch hit)', '--seq-length', 'a\nb', '--data-path', "'", '--lr', 'another', '--x=$(touch hit)', 'end'],
]

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ascendflow-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

/** A program that prints its words, each ended by a NUL. */
async function printer(name: string): Promise<string> {
  await mkdir(join(dir, 'bin'), { recursive: true })
  await writeFile(join(dir, 'bin', name), '#!/bin/sh\nprintf "%s\\0" "$@"\n', { mode: 0o755 })
  return name
}

async function runScripts(works: readonly ShellWork[], env: Record<string, string> = {}): Promise<string> {
  const scripts = shellScripts(works)
  for (const { name, text } of scripts) await writeFile(join(dir, name), text)
  const { stdout } = await execute('bash', [join(dir, scripts[0]!.name)], {
    ...{ cwd: dir, env: { PATH: `${join(dir, 'bin')}:${process.env.PATH}`, ...env } },
  })
  return stdout
}

const one = (argv: readonly Word[], more: Partial<ShellWork> = {}): ShellWork => ({
  ...{ name: 'work', launch: { argv, nodes: 1, devicesPerNode: 0 } },
  ...more,
})

describe('shellScripts', () => {
  it('gives a program exactly its words, whatever they are', async () => {
    const program = await printer('words')
    expect((await runScripts([one([program, ...hostile])])).split('\0').slice(0, -1)).toEqual(hostile)
    await expect(execute('ls', [join(dir, 'hit')])).rejects.toThrow()
  })

  it.each(['time', 'if', 'A=b', "it's", 'two words', '$(touch hit)'])('starts a program called %s', async name => {
    await printer(name)
    expect(await runScripts([one([name, 'x'])])).toBe('x\0')
  })

  it('passes words on through bash -c as well', async () => {
    const script = 'printf "%s\\0" "$@"'
    const stdout = await runScripts([one(['bash', '-c', script, 'bash', ...hostile])])
    expect(stdout.split('\0').slice(0, -1)).toEqual(hostile)
  })

  it('sets the environment, enters the folder and runs what comes before', async () => {
    const folder = join(dir, "a 'folder'\nof two lines")
    await mkdir(folder)
    const env = { VALUE: "$(touch hit) 'x'", API_KEY: 'secret' }
    const work = one(['bash', '-c', 'cat before; printf "%s|%s|%s" "$VALUE" "$API_KEY" "$PWD"'])
    const works = [
      {
        ...work,
        ...{ launch: { ...work.launch, env }, dir: folder, about: ['line one\ntouch hit', 'line\rtwo'] },
        ...{ before: [['bash', '-c', 'echo "$1" > before', 'bash', '$(touch hit)']] },
      },
    ]
    expect(shellScripts(works)[1]!.text).not.toContain('secret')
    const stdout = await runScripts(works, { API_KEY: 'from outside' })
    expect(stdout).toBe(`$(touch hit)\n$(touch hit) 'x'|from outside|${folder}`)
    await expect(runScripts(works)).rejects.toThrow(/API_KEY/)
  })

  it('stops at the first work that fails', async () => {
    const works = [one(['false']), one(['touch', join(dir, 'hit')])]
    await expect(runScripts(works)).rejects.toMatchObject({ code: 1 })
    await expect(execute('ls', [join(dir, 'hit')])).rejects.toThrow()
  })

  it('takes what differs between nodes from the environment', async () => {
    const program = await printer('words')
    const argv: readonly Word[] = [program, { node: 'rank' }, { node: 'count' }, { node: 'masterAddr' }]
    const work = { ...one(argv), launch: { argv, nodes: 2, devicesPerNode: 8 } }
    expect(await runScripts([work])).toBe('0\x002\0localhost\0')
    const env = { NODE_RANK: '1', NNODES: '4', MASTER_ADDR: '$(touch hit) 10.0.0.1' }
    expect(await runScripts([work], env)).toBe(`1\x004\0${env.MASTER_ADDR}\0`)
  })

  it('is readable: variables as in the guide, one flag a line', () => {
    const launch = toolchainWork('llama2-13b', 'modellink-1.1', 'pretrain')
    const [all, script] = shellScripts([{ name: 'train 13b', launch, about: ['llama2-13b: tp 8 · pp 1'] }])
    expect(all).toEqual({
      name: '0_run_all.sh',
      text: [
        '#!/bin/bash',
        '# Runs the scripts beside this one, each after the one before it has succeeded.',
        'set -eo pipefail',
        'cd "$(dirname "$0")"',
        'bash ./1_train_13b.sh',
        '',
      ].join('\n'),
    })
    expect(script!.name).toBe('1_train_13b.sh')
    expect(script!.text.split('\n').slice(0, 40)).toEqual([
      ...['#!/bin/bash', '# train 13b', '# llama2-13b: tp 8 · pp 1', 'set -eo pipefail'],
      'if [ -f /usr/local/Ascend/ascend-toolkit/set_env.sh ]; then source /usr/local/Ascend/ascend-toolkit/set_env.sh; fi',
      ...['export CUDA_DEVICE_MAX_CONNECTIONS=1', 'export PYTORCH_NPU_ALLOC_CONF=expandable_segments:True', ''],
      ...[`NNODES="\${NNODES:-1}"`, `NODE_RANK="\${NODE_RANK:-0}"`, `MASTER_ADDR="\${MASTER_ADDR:-localhost}"`],
      ...[`MASTER_PORT="\${MASTER_PORT:-6000}"`, '', 'GPUS_PER_NODE=8', 'TP=8', 'PP=1', 'MAX_PE=4096', 'SEQ_LEN=4096'],
      ...['TOKENIZER_TYPE=PretrainedFromHF', 'TOKENIZER_PATH=/hf', 'DATA_PATH=/data/alpaca_text_document', 'MBS=4'],
      ...['GBS=512', 'TRAIN_ITERS=10', 'LR=0.000025', 'MIN_LR=0.0000025', 'SEED=1234', 'CONVERT_MODEL_PATH=/mg'],
      ...['MODEL_SAVE_PATH=/save', '', 'cd /toolchain', 'torchrun \\', '  --nproc_per_node "$GPUS_PER_NODE" \\'],
      ...['  --nnodes "$NNODES" \\', '  --node_rank "$NODE_RANK" \\', '  --master_addr "$MASTER_ADDR" \\'],
      ...['  --master_port "$MASTER_PORT" \\', '  /toolchain/pretrain_gpt.py \\'],
      ...['  --tensor-model-parallel-size "$TP" \\', '  --pipeline-model-parallel-size "$PP" \\'],
    ])
  })

  it.each(['pretrain', 'sft', 'lora', 'text', 'instructions', 'hfToMegatron', 'megatronToHf'] as const)(
    'runs the same words as the launch of %s',
    async work => {
      const { argv, ...launch } = toolchainWork('qwen-7b', 'modellink-1.1', work)
      const program = await printer(String(argv[0]))
      const stdout = await runScripts([{ name: work, launch: { ...launch, argv: [program, ...argv.slice(1)] }, dir }])
      const node = { rank: '0', count: '1', masterAddr: 'localhost', masterPort: '6000' }
      const words = argv.map(word =>
        typeof word !== 'object'
          ? String(word)
          : 'node' in word
            ? node[word.node]
            : 'read' in word
              ? word.read
              : word.write,
      )
      expect(stdout.split('\0').slice(0, -1)).toEqual(words.slice(1))
    },
  )

  it('refuses a NUL and a name that is no variable’s', () => {
    expect(() => shellScripts([one(['a', 'b\0c'])])).toThrow(/'b\\0c': no program can be given a NUL/)
    const env = { 'A; touch hit': '1' }
    const { launch } = one(['a'])
    expect(() => shellScripts([{ name: 'x', launch: { ...launch, env } }])).toThrow(
      /no name of an environment variable/,
    )
  })
})
