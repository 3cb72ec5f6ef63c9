// Judges each line of cases.jsonl in the folder given: the rules that it breaks, in order, to verdicts.jsonl.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { layoutViolations } from 'ascendflow'

const dir = process.argv[2]!
const cases = (await readFile(join(dir, 'cases.jsonl'), 'utf8')).trimEnd().split('\n')
const verdicts = cases.map(line => layoutViolations(JSON.parse(line)).map(({ rule }) => rule))
await writeFile(join(dir, 'verdicts.jsonl'), verdicts.map(verdict => JSON.stringify(verdict)).join('\n'))
