import { rm } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { parseIterationLine } from '../ascendspeed/iteration-line.ts'
import { acceptedFlags } from '../ascendspeed/parsers.ts'
import { type ParsedFlags, parseFlags } from './argparse.ts'
import { checkLoad } from './checkpoint-loading.ts'
import { writeRowOrder, wrongData } from './data-loading.ts'
import { type EmbeddedTrainer, startTrainer } from './embedded-trainer.ts'
import { errorMessages } from './error-messages.ts'
import { pythonTime } from './python-time.ts'
import { joinMeeting, type Meeting, type NodeMessage, openMeeting } from './rendezvous.ts'
import { saveIteration } from './save-iteration.ts'
import { faultAt, programName, raise, scratchFolder, type Tool } from './tool.ts'
import { argumentLines, faultyIteration, iterationLine } from './training-lines.ts'
import { type TrainingPlace, trainingPlace } from './training-place.ts'

/**
 * `pretrain_gpt.py` and `posttrain_gpt.py`, by the embedded trainer: it runs on the first node, and the last one prints
 * what Megatron's last rank prints. Gives the exit status.
 */
export async function trainTool(tool: Tool, argv: readonly string[]): Promise<number> {
  const flags = parseFlags(argv, {
    program: programName(tool),
    accepted: acceptedFlags(tool.generation, ['train']),
    choices: {
      'distributed-backend': ['nccl', 'gloo'],
      'position-embedding-type': ['learned_absolute', 'rope', 'alibi'],
    },
  })
  const place = trainingPlace(tool)
  const atOnce = (['device-busy', 'hccl-connect-timeout'] as const).find(kind => faultAt(tool, kind))
  if (atOnce) return raise(tool, errorMessages[atOnce](place))
  const wrong = wrongSizes(flags, place)
  if (wrong !== undefined) return raise(tool, wrong)
  if (place.node > 0) return followTraining(tool, place)
  const alone: Meeting = { send() {}, async close() {}, lost: new Promise<never>(() => {}) }
  const meeting = place.nodes === 1 ? alone : await openMeeting(place, place.nodes).catch(() => undefined)
  if (!meeting) return raise(tool, errorMessages['hccl-connect-timeout'](place))
  const run: Training = { tool, flags, place, meeting }
  try {
    const status = await Promise.race([
      lead(run),
      meeting.lost.catch(() => raise(tool, errorMessages['hccl-exec-timeout'](place))),
    ])
    // A node that fails tells nobody: the others wait for it in vain.
    if (status === 0) meeting.send({ type: 'end', status })
    return status
  } finally {
    await meeting.close()
    await rm(scratchFolder(tool), { recursive: true, force: true })
  }
}

interface Training {
  readonly tool: Tool
  readonly flags: ParsedFlags
  readonly place: TrainingPlace
  readonly meeting: Meeting
}

async function lead(run: Training): Promise<number> {
  const { tool, flags, place, meeting } = run
  const { tp, pp, cp, dp } = sizes(flags, place)
  tool.print(
    `using world size: ${place.world}, data-parallel size: ${dp}, context-parallel size: ${cp} tensor-model-parallel size: ${tp}, pipeline-model-parallel size: ${pp} `,
  )
  const all = new Map<string, readonly string[] | number>([...flags, ['world-size', place.world], ['rank', place.rank]])
  for (const line of argumentLines(tool, all)) tool.print(line)
  datetime(tool, 'after megatron is initialized')
  tool.print('building GPT model ...')
  const loaded = await checkLoad(tool, flags)
  if (loaded.status !== undefined) return loaded.status
  datetime(tool, 'after model, optimizer, and learning rate scheduler are built')
  tool.print('> building train, validation, and test datasets for GPT ...')
  const wrong = wrongData(tool, flags)
  if (wrong !== undefined) return raise(tool, wrong)
  await writeRowOrder(flags)
  tool.print('> finished creating GPT datasets ...')
  datetime(tool, 'after dataloaders are built')
  tool.print('done with setup ...')
  const trainer = await startTrainer(tool, { flags, loaded })
  // Without the flag Python's own way with signals ends the process, in the middle of whatever it does.
  if (flags.has('exit-signal-handler')) tool.onTerminate(() => trainer.child.kill('SIGTERM'))
  meeting.lost.catch(() => trainer.child.kill('SIGKILL'))
  const errors = text(trainer.child.stderr)
  const ended = new Promise<number | null>(resolve => trainer.child.on('close', resolve))
  try {
    let isTraining = false
    for await (const line of createInterface({ input: trainer.child.stdout })) {
      isTraining ||= line === 'training ...'
      // Megatron measures nothing before it trains.
      if (!isTraining && validationLine.test(line)) continue
      const status = await passOn(run, trainer, line)
      if (status !== undefined) return status
    }
    if ((await ended) === 0) return 0
    // Its own kinds of error are not Python's; that for NaN has the real one's words.
    const message = (await errors)
      .trim()
      .split('\n')[0]!
      .replace(/^\w+Error: /, '')
    return raise(tool, `${message.includes('found NaN') ? 'ValueError' : 'RuntimeError'}: ${message}`)
  } finally {
    trainer.child.kill('SIGKILL')
  }
}

const validationLine = /^-+$|^ validation loss/

/** What Megatron would say where the trainer says `line`. Gives an exit status when the run ends there. */
async function passOn(run: Training, trainer: EmbeddedTrainer, line: string): Promise<number | undefined> {
  const { tool, flags, place, meeting } = run
  const one = (name: string) => flags.get(name)?.[0]
  const iteration = parseIterationLine(line)
  if (iteration) {
    const at = iteration.iteration
    meeting.send({ type: 'iteration', iteration: at })
    const status = await midTraining(tool, place, { at, trainer })
    if (status !== undefined) return status
    printLast(run, iterationLine(tool.generation, faultyIteration(tool, iteration)))
  } else if (validationLine.test(line)) printLast(run, line)
  else if (line.startsWith('  successfully saved checkpoint')) {
    const saved = Number(/iteration\s+(\d+)/.exec(line)![1])
    if (faultAt(tool, 'hang-in-save', saved)) trainer.child.kill('SIGKILL')
    return saveIteration(tool, { iteration: saved, from: trainer.save, save: one('save')! })
  } else if (line.startsWith('  successfully loaded'))
    tool.print(line.replace(/from \S+ \[/, `from ${one('lora-load') ?? one('load')} [`))
  else if (!/^(using world size|embedded CPU trainer| loading checkpoint|saving checkpoint)/.test(line))
    tool.print(line)
  return undefined
}

/** Faults that come in the middle of a training. */
async function midTraining(
  tool: Tool,
  place: TrainingPlace,
  { at, trainer }: { readonly at: number; readonly trainer?: EmbeddedTrainer },
): Promise<number | undefined> {
  const deadly = (['device-oom', 'device-fault', 'hccl-exec-timeout', 'nan-loss'] as const).find(kind =>
    faultAt(tool, kind, at),
  )
  if (deadly) return raise(tool, errorMessages[deadly](place))
  if (faultAt(tool, 'early-exit', at)) return 0
  if (!(['lost-node', 'host-oom', 'hang-in-training'] as const).some(kind => faultAt(tool, kind, at))) return undefined
  trainer?.child.kill('SIGKILL')
  if (faultAt(tool, 'hang-in-training', at)) await tool.hang()
  if (faultAt(tool, 'lost-node', at) && tool.env.TORCHELASTIC_RUN_ID !== undefined)
    process.kill(process.ppid, 'SIGKILL')
  return tool.kill()
}

/** Any node but the first: prints what it is told to, until the first says how it ended or is gone. */
async function followTraining(tool: Tool, place: TrainingPlace): Promise<number> {
  const messages = await joinMeeting(place, place.node).catch(() => undefined)
  if (!messages) return raise(tool, errorMessages['hccl-connect-timeout'](place))
  for await (const message of messages as AsyncIterable<NodeMessage>) {
    if (message.type === 'end') return message.status
    if (message.type === 'line') tool.print(message.line)
    if (message.type !== 'iteration') continue
    const status = await midTraining(tool, place, { at: message.iteration })
    if (status !== undefined) return status
  }
  return raise(tool, errorMessages['hccl-exec-timeout'](place))
}

/** Prints on the last node, where Megatron's last rank is. */
function printLast({ tool, place, meeting }: Training, line: string): void {
  if (place.nodes === 1) tool.print(line)
  else meeting.send({ type: 'line', line }, place.nodes - 1)
}

function datetime(tool: Tool, event: string): void {
  tool.print(`[${event}] datetime: ${pythonTime()} `)
}

function sizes(flags: ParsedFlags, { world }: TrainingPlace) {
  const one = (name: string, otherwise: number) => Number(flags.get(name)?.[0] ?? otherwise)
  const [tp, pp] = [one('tensor-model-parallel-size', 1), one('pipeline-model-parallel-size', 1)]
  const cp = one('context-parallel-size', 1)
  const micro = one('micro-batch-size', 1)
  return { tp, pp, cp, dp: Math.floor(world / (tp * pp * cp)), micro, global: one('global-batch-size', micro) }
}

/** Source: Megatron-LM core_r0.6.0, arguments.py:150-175, 383; microbatches.py:64-68. */
function wrongSizes(flags: ParsedFlags, place: TrainingPlace): string | undefined {
  const { tp, pp, cp, dp, micro, global } = sizes(flags, place)
  if (dp < 1 || place.world % (tp * pp * cp) !== 0)
    return `AssertionError: world size (${place.world}) is not divisible by tensor parallel size (${tp}) times pipeline parallel size (${pp})${cp === 1 ? '' : ` times context parallel size (${cp})`}`
  if (global % (micro * dp) !== 0)
    return `AssertionError: global batch size (${global}) is not divisible by micro batch size (${micro}) times data parallel size (${dp})`
  return flags.has('save') && !flags.has('save-interval') ? 'AssertionError' : undefined
}
