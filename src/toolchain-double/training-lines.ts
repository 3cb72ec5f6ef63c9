import type { Generation } from '../ascendspeed/generations.ts'
import { formatIterationLine, type IterationLine } from '../ascendspeed/iteration-line.ts'
import { faultAt, type Tool } from './tool.ts'

/** A training log's line of the generation: the first has no time stamp and a shorter learning rate. */
export function iterationLine(generation: Generation, line: IterationLine): string {
  if (generation !== 'modellink-1.0') return formatIterationLine(line)
  const { timestamp: _, ...rest } = line
  // Source: Megatron-LM bcce6f54, megatron/training.py:660-693.
  return formatIterationLine(rest).replace(
    /learning rate: \S+/,
    `learning rate: ${(line.learningRate ?? 0)
      .toExponential(3)
      .toUpperCase()
      .replace(/E([+-])(\d)$/, 'E$10$2')}`,
  )
}

/** What the run's faults make of an iteration. */
export function faultyIteration(tool: Tool, line: IterationLine): IterationLine {
  const { iteration } = line
  if (faultAt(tool, 'nan-iterations', iteration)) {
    const { loss: _, ...rest } = line
    return { ...rest, gradNorm: Number.NaN, nanIterations: 1 }
  }
  if (faultAt(tool, 'skipped-iterations', iteration)) {
    const { loss: _, gradNorm: __, ...rest } = line
    return { ...rest, lossScale: Math.max(1, 4096 / 2 ** Math.min(12, iteration)), skippedIterations: 1 }
  }
  const spike = faultAt(tool, 'loss-spike', iteration)
  if (!spike || (spike.at ?? 1) !== iteration) return line
  return { ...line, loss: 1000 * (line.loss ?? 1), gradNorm: 1000 * (line.gradNorm ?? 1) }
}

/** Megatron's dump of its arguments: those that were given. Source: megatron/training/arguments.py:519-531. */
export function argumentLines(
  { generation }: Tool,
  values: ReadonlyMap<string, readonly string[] | number>,
): readonly string[] {
  const lines = [...values].map(([name, value]) => {
    const field = name.replaceAll('-', '_')
    const text =
      typeof value === 'number'
        ? value
        : value.length === 0
          ? 'True'
          : value.length === 1
            ? value[0]
            : pythonList(value)
    return `  ${field} ${'.'.repeat(Math.max(0, 48 - field.length))} ${text}`
  })
  lines.sort((a, b) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1))
  const block = (title: string) => [
    `------------------------ ${title} ------------------------`,
    ...lines,
    `-------------------- end of ${title} ---------------------`,
  ]
  const second = { 'modellink-rc3': 'ModelLink Arguments', 'mindspeed-llm': 'MindSpeed-LLM Arguments' }
  const title = Object.entries(second).find(([name]) => name === generation)?.[1]
  return [...block('arguments'), ...(title === undefined ? [] : block(title))]
}

const pythonList = (words: readonly string[]) => `[${words.map(word => `'${word}'`).join(', ')}]`

/** The two lines around a save. Source: Megatron-LM bcce6f54, core_r0.6.0 and core_v0.8.0, checkpointing.py. */
export function savingLines(generation: Generation, iteration: number, dir: string): readonly [string, string] {
  const at = `${String(iteration).padStart(7)} to ${dir}`
  if (generation === 'modellink-1.0')
    return [`saving checkpoint at iteration ${at}`, `  successfully saved checkpoint at iteration ${at}`]
  const verb = generation === 'mindspeed-llm' ? 'from' : 'at'
  return [
    `saving checkpoint at iteration ${at} in torch format`,
    `  successfully saved checkpoint ${verb} iteration ${at}`,
  ]
}
