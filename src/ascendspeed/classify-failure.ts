import type { JobEnd, JobLine } from '../flow/job-watch.ts'
import type { Evidence, FailureKind, JobFailure } from '../job-failure.ts'
import { failureKinds, type KindOfFailure } from './failure-kinds.ts'
import { type FailureRule, failureRules, type Strength, told } from './failure-rules.ts'
import { parseLogLine, plain } from './log-line.ts'

/** How a job ended, as far as it matters for why. */
export type FailureEnd = Pick<JobEnd, 'state' | 'exitCode' | 'reason'>

/**
 * Why a job of the toolchain failed, from its output and its end: the first root cause, not what followed from it on
 * other nodes. A line after which two more iterations were done was survived, and does not count.
 */
export function classifyFailure(lines: readonly string[], end: FailureEnd): JobFailure {
  const evidence = collectEvidence()
  lines.forEach((line, index) => {
    const read = parseLogLine(line)
    if (read?.kind === 'iteration') evidence.survived()
    else evidence.note({ text: line }, index + 1)
  })
  return evidence.judge(end)
}

/** What a failure can be told by, gathered line by line; keeps at most a dozen lines. */
export interface EvidenceCollection {
  /** Takes a line and its number in the output. */
  note(line: Pick<JobLine, 'text' | 'node'>, number: number): void
  /** An iteration was done after the lines so far. */
  survived(): void
  judge(end: FailureEnd): JobFailure
}

interface Found {
  readonly rule: FailureRule
  readonly evidence: Evidence
  /** Iterations done before it. */
  readonly iterations: number
}

export function collectEvidence(): EvidenceCollection {
  let found: readonly Found[] = []
  let iterations = 0
  const isLive = (one: Found) => one.iterations > iterations - 2
  return {
    note: (line, number) => {
      const text = plain(line.text)
      const rule = ruleFor(text)
      // The first of each strength is enough, and of each iteration, since an earlier one may yet be survived.
      if (!rule || found.some(one => one.rule.strength === rule.strength && one.iterations === iterations)) return
      const node = line.node === undefined ? {} : { node: line.node }
      found = [...found, { rule, evidence: { line: text.trim(), number, ...node }, iterations }]
    },
    survived: () => {
      iterations++
      if (found.length > 0) found = found.filter(isLive)
    },
    judge: end => {
      const strongest = (strength: Strength) => found.find(one => isLive(one) && one.rule.strength === strength)
      const root = strongest(1)
      if (root) return inWords(root)
      const ended = fromEnd(end)
      // A node that is gone explains why the others waited; an exit status explains nothing that a line does not.
      if (ended && end.state !== 'failed') return ended
      const other = strongest(2) ?? strongest(3) ?? strongest(4)
      return other ? inWords(other) : (ended ?? failure('unknown'))
    },
  }
}

/** A failure of one kind in the kind's words, or in better ones. */
export function failure(
  kind: FailureKind,
  words: Partial<Pick<JobFailure, keyof KindOfFailure | 'evidence'>> = {},
): JobFailure {
  return { kind, ...failureKinds[kind], ...words }
}

function inWords({ rule, evidence }: Found): JobFailure {
  const { cause, advice, retry } = { ...failureKinds[rule.kind], ...words(rule) }
  return { kind: rule.kind, cause, advice, retry, evidence }
}

const words = ({ cause, advice, retry }: Partial<KindOfFailure>): Partial<KindOfFailure> => ({
  ...(cause === undefined ? {} : { cause }),
  ...(advice === undefined ? {} : { advice }),
  ...(retry === undefined ? {} : { retry }),
})

/** What the end alone says. Exit codes above 128: the signal that ended a shell's child. */
function fromEnd({ state, exitCode, reason = '' }: FailureEnd): JobFailure | undefined {
  if (state === 'cancelled') return failure('cancelled')
  if (state === 'lost') return failure('lost-node')
  if (state === 'unproved')
    return failure('unknown', { cause: 'it ended as if all were well, and its output is not there' })
  if (exitCode === 137 || /SIGKILL/.test(reason))
    return failure('host-oom', {
      cause: 'its process was killed, as the system does when memory runs out',
      retry: 'later',
    })
  if (exitCode === 143 || /SIGTERM/.test(reason)) return failure('cancelled', told)
  if (exitCode === 126 || exitCode === 127) return failure('config', { cause: 'the command could not be started' })
  if (/SIG(SEGV|ABRT|BUS|ILL|FPE)/.test(reason)) return failure('code', { cause: 'the program crashed' })
  return undefined
}

/** Each rule's lines have one of these, and few other lines do: it is what makes a large log quick to read. */
const worthALook =
  /error|exception|fail|kill|out of mem|shared mem|oom|(nno|n')t allocate|bad_alloc|no s(pace|uch)|quota|edquot|enospc|\be[a-z]\d{4}|unexpected pos|is used|in use|unsched|insuff|apig|modelarts|unauth|forbid|denied|bit ecc|drvret|nan in|not (found|exist|equal|divis|load)|be divis|either train|doesn't|mismatch for|missing[ -](key|check)|unable to load|invalid|unknown local|timeout|force stop|nodelost|connection|broken pipe|exitcode|signal|interrupt|sigterm|segm|core d|central/i

function ruleFor(text: string): FailureRule | undefined {
  return worthALook.test(text) ? failureRules.find(({ pattern }) => pattern.test(text)) : undefined
}
