import { FormatError } from '../errors.ts'

/** What a command of the probe gave. */
export interface Seen {
  readonly code: number
  readonly text: string
}

/** What the probe saw, by the name of the command. */
export type ProbeOutput = ReadonlyMap<string, Seen>

/**
 * Reads the file that the probe wrote. What several commands of one name gave is put together, with the last exit code.
 * @throws FormatError for a line that is neither a name with an exit code nor output behind a tab.
 */
export function readProbe(file: string, content: string): ProbeOutput {
  const sections = new Map<string, Seen>()
  let name: string | undefined
  for (const [i, line] of content.split('\n').entries()) {
    if (line === '') continue
    const head = /^([\w-]+) (\d+)$/.exec(line)
    if (head) name = head[1]!
    else if (name === undefined || !line.startsWith('\t'))
      throw new FormatError({
        ...{ file, expected: `a section of the probe in line ${i + 1}`, found: JSON.stringify(line.slice(0, 80)) },
      })
    const before = sections.get(name)
    const text = head ? [] : [line.slice(1)]
    sections.set(name, {
      code: head ? Number(head[2]) : before!.code,
      text: [...(before?.text ? [before.text] : []), ...text].join('\n'),
    })
  }
  if (sections.size === 0) throw new FormatError({ file, expected: 'what the probe saw', found: 'nothing' })
  return sections
}
