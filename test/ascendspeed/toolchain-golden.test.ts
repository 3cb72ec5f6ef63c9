import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkFlagWords, splitFlags } from '../../src/ascendspeed/flag-words.ts'
import { type Generation, generations } from '../../src/ascendspeed/generations.ts'
import { acceptedFlags } from '../../src/ascendspeed/parsers.ts'
import { isFlowError } from '../../src/errors.ts'
import type { Word } from '../../src/flow/launch.ts'
import { models } from '../../src/models/supported-model.ts'
import { toolchainWork, works } from './toolchain-work.ts'

type Work = (typeof works)[number]

/** A command, one line for a flag, paths marked by `<` (read) and `>` (written); or why there is none. */
function commandLines(id: string, generation: Generation, work: Work): readonly string[] {
  try {
    const { argv, env = {}, nodes, devicesPerNode } = toolchainWork(id, generation, work)
    const show = (word: Word) =>
      typeof word !== 'object'
        ? String(word)
        : 'read' in word
          ? `<${word.read}`
          : 'write' in word
            ? `>${word.write}`
            : `{${word.node}}`
    const head = Object.entries(env).map(([name, value]) => `${name}=${value}`)
    const flags = splitFlags(argv).map(({ flag, values }) => [flag, ...values.map(show)].join(' '))
    const first = argv.findIndex(word => typeof word === 'string' && word.startsWith('--'))
    return [...head, `on ${nodes} × ${devicesPerNode}`, argv.slice(0, first).map(show).join(' '), ...flags]
  } catch (error) {
    if (!isFlowError(error)) throw error
    return [`! ${error.code}: ${error.message}`]
  }
}

/** Each command as what it has more and less than the one that it follows from. */
function modelText(id: string): string {
  const text = [`# ${id}`]
  for (const work of works) {
    let before: readonly string[] = []
    for (const generation of generations) {
      const lines = commandLines(id, generation, work)
      const base = work === 'sft' ? 'pretrain' : work === 'lora' ? 'sft' : undefined
      const from = base ? commandLines(id, generation, base) : before
      text.push('', `## ${work}, ${generation}`)
      if (lines[0]?.startsWith('!')) {
        text.push(...lines)
        continue
      }
      text.push(...from.filter(line => !lines.includes(line) && !line.startsWith('!')).map(line => `- ${line}`))
      text.push(...lines.filter(line => !from.includes(line)).map(line => `+ ${line}`))
      before = lines
    }
  }
  return `${text.join('\n')}\n`
}

describe('commands of the toolchain', () => {
  it('are those of the golden files, for every model, generation and kind of work', async () => {
    expect(models).toHaveLength(21)
    for (const { id } of models)
      await expect(modelText(id)).toMatchFileSnapshot(join(import.meta.dirname, 'golden', `${id}.txt`))
  })

  const cases = models.flatMap(({ id }) =>
    generations.flatMap(generation => works.map(work => ({ id, generation, work }))),
  )

  it('carry only flags that their generation accepts, each with what it takes', () => {
    const built = cases.flatMap(({ id, generation, work }) => {
      try {
        return [toolchainWork(id, generation, work)]
      } catch (error) {
        if (!isFlowError(error)) throw error
        return []
      }
    })
    for (const { argv, generation, parsers } of built) {
      const accepted = acceptedFlags(generation, parsers)
      const torchrun = argv[0] === 'torchrun' ? 11 : 0
      const flags = splitFlags(argv.slice(torchrun))
      expect(flags.filter(({ flag }) => !accepted.has(flag)).map(({ flag }) => `${generation}: ${flag}`)).toEqual([])
      for (const given of flags) checkFlagWords(given, accepted.get(given.flag)!)
      expect(new Set(flags.map(({ flag }) => flag)).size).toBe(flags.length)
    }
    expect(built.length).toBeGreaterThan(500)
  })

  it('name every path as one that is read or written', () => {
    for (const { id, generation, work } of cases) {
      const lines = commandLines(id, generation, work).filter(line => !line.startsWith('!'))
      expect(lines.filter(line => / \/|=\//.test(line))).toEqual([])
    }
  })
})
