import type { WarningNews } from '../flow/job-watch.ts'
import type { IterationLine } from './iteration-line.ts'
import type { Reaction, WatchPolicy } from './watch-policy.ts'

/** Something wrong with the numbers of an iteration, and what the policy wants done about it. */
export interface LossAlarm {
  readonly about: Exclude<WarningNews['about'], 'hang' | 'log'>
  readonly text: string
  readonly reaction: Exclude<Reaction, 'ignore'>
}

/** Losses that a spike is measured by, and how many of them must be known. */
const window = 20
const enough = 10

/**
 * Looks at each iteration's loss; one state of affairs is told once, until it is over.
 *
 * Megatron leaves out a loss that is not above zero, so NaN shows in the counter, the norm of the gradient, or (where
 * the check for it is on) as the error that ends the job. Skipped updates are usual while fp16 finds its loss scale.
 */
export function lossAlarms(policy: WatchPolicy): (line: IterationLine) => readonly LossAlarm[] {
  const losses: number[] = []
  let skipped = 0
  let told: ReadonlySet<LossAlarm['about']> = new Set()
  let before = 0
  return line => {
    const { iteration, loss, gradNorm, nanIterations = 0, skippedIterations = 0 } = line
    const covered = Math.max(1, iteration - before)
    before = iteration
    skipped = skippedIterations >= covered ? skipped + skippedIterations : 0
    const found: Partial<Record<LossAlarm['about'], string>> = {}
    if (nanIterations > 0 || isBad(loss) || isBad(gradNorm)) {
      const what = isBad(gradNorm) && !isBad(loss) && nanIterations === 0 ? 'norm of its gradient' : 'loss'
      found.nan = `the ${what} is not a number at iteration ${iteration}`
    } else if (loss !== undefined && losses.length >= enough && loss > policy.spikeFactor * Math.min(...losses)) {
      const usual = [...losses].sort((a, b) => a - b)[losses.length >> 1]!
      if (loss > policy.spikeFactor * usual)
        found['loss-spike'] =
          `the loss is ${loss.toPrecision(4)} at iteration ${iteration}, after ${usual.toPrecision(4)}`
    }
    if (skipped >= policy.skippedInARow)
      found.skipped = `${skipped} updates in a row were skipped up to iteration ${iteration}`
    if (loss !== undefined && !isBad(loss) && losses.push(loss) > window) losses.shift()
    const now = Object.entries(found) as readonly (readonly [LossAlarm['about'], string])[]
    if (now.length === 0 && told.size === 0) return []
    const fresh = now.filter(([about]) => !told.has(about))
    told = new Set(now.map(([about]) => about))
    return fresh.flatMap(([about, text]) => {
      const reaction = about === 'loss-spike' ? policy.lossSpike : policy[about]
      return reaction === 'ignore' ? [] : [{ about, text, reaction }]
    })
  }
}

const isBad = (value: number | undefined) => value !== undefined && !Number.isFinite(value)
