import type { MultiBar, SingleBar } from 'cli-progress'
import type { EventOf, FlowEvent } from '../flow/event.ts'
import { trainingNote } from './training-note.ts'
import { wrapWidth } from './wrap-width.ts'

/** Anything whose events can be listened to: a run. */
export interface Listenable {
  on<E extends FlowEvent['type']>(type: E, listener: (event: EventOf<E>) => void): unknown
}

export interface ConsoleProgressOptions {
  /** Default: standard error, so that standard output stays for results. */
  readonly stream?: NodeJS.WriteStream
}

/**
 * Shows on a console how a run goes: a bar for each step at work with its loss, speed and time left, a line for each
 * that has ended, and for a failed job why it failed, what is lost and what to do.
 * Where the stream is no terminal (a log file, CI), lines only: about ten for each step that tells how far it is.
 */
export function showProgress(run: Listenable, options: ConsoleProgressOptions = {}): void {
  const { stream = process.stderr } = options
  let bars: MultiBar | undefined
  let ended = false
  if (stream.isTTY)
    void import('cli-progress').then(({ default: { MultiBar, Presets } }) => {
      if (!ended)
        bars = new MultiBar({ format, stream, hideCursor: true, clearOnComplete: true }, Presets.shades_classic)
    })
  const atWork = new Map<string, StepView>()
  const measured = new Map<string, string>()

  const say = (line: string) => {
    const text = `${stream.isTTY ? wrapWidth(line, stream.columns ?? 80) : line}\n`
    if (bars) bars.log(text)
    else stream.write(text)
  }
  const advance = (step: string, seen: Position) => {
    const view = atWork.get(step)
    if (!view || !(seen.total > 0)) return
    if (bars) {
      view.bar ??= bars.create(seen.total, 0, { step, note: '' })
      view.bar.setTotal(seen.total)
      view.bar.update(seen.done, { step, note: seen.note })
    } else if (!stream.isTTY && seen.done >= view.nextLine && Date.now() - view.since >= quietMs) {
      view.nextLine = seen.done + seen.total / 10
      say(`  ${step}  ${Math.floor((100 * seen.done) / seen.total)} %${seen.note ? `  ${seen.note}` : ''}`)
    }
  }
  const finish = (step: string, line: string) => {
    const bar = atWork.get(step)?.bar
    if (bar) bars?.remove(bar)
    atWork.delete(step)
    say(line)
  }

  run.on('step.started', ({ step }) => atWork.set(step, { nextLine: 0, since: Date.now() }))
  run.on('step.skipped', ({ step, facts }) => say([`✓ ${step}  recorded`, ...facts].join(' · ')))
  run.on('step.progress', ({ step, done, total }) => advance(step, { done, total: total ?? 0, note: '' }))
  run.on('step.metrics', ({ step, values }) => {
    const { iteration, trainIters } = values
    if (iteration === undefined || trainIters === undefined) return
    advance(step, { done: iteration, total: trainIters, note: trainingNote(values) })
  })
  run.on('step.validation', ({ step, iteration, set, loss }) => {
    const text = `${set ?? 'validation'} loss ${loss.toFixed(3)} at iteration ${iteration}`
    // The end of a training tells the last measurement once more.
    if (measured.get(step) !== text) say(`  ${step}  ${text}`)
    measured.set(step, text)
  })
  run.on('step.warning', ({ step, text }) => say(`! ${step}  ${text}`))
  run.on('step.retrying', ({ step, error }) => finish(step, `↻ ${step}  ${error.message}`))
  run.on('step.succeeded', ({ step, durationMs, facts }) =>
    finish(step, [`✓ ${step}  ${(durationMs / 1000).toFixed(1)} s`, ...facts].join(' · ')),
  )
  run.on('step.failed', ({ step, error }) =>
    finish(step, `✗ ${error.message.startsWith(step) ? '' : `${step}: `}${error.message}`),
  )
  run.on('run.finished', () => {
    ended = true
    // Lines wait for the next drawing, and stop() draws no more.
    bars?.update()
    bars?.stop()
  })
}

interface StepView {
  bar?: SingleBar
  /** Where the next line is due when there is no terminal. */
  nextLine: number
  readonly since: number
}

interface Position {
  readonly done: number
  readonly total: number
  readonly note: string
}

/** A step that is done sooner has no lines on the way. */
const quietMs = 1_000

const format = '  {step} {bar} {percentage} %  {note}'
