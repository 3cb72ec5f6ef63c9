import type { CheckpointIteration } from './megatron-folder.ts'
import { printable } from './printable.ts'

interface Place {
  /** The file or folder that is wrong. */
  readonly path: string
  /** `error`: a job would fail or compute something else; `warning`: worth knowing. */
  readonly severity: 'error' | 'warning'
  /** What to do. */
  readonly advice: string
}

interface Wrong {
  readonly expected: string
  readonly found: string
}

/** What a doctor found in a checkpoint. Tell findings apart by `code`. */
export type Finding = Place &
  (
    | { readonly code: 'tracker-missing'; readonly newestComplete: CheckpointIteration | undefined }
    | {
        readonly code: 'tracker-garbled'
        readonly found: string
        readonly newestComplete: CheckpointIteration | undefined
      }
    | {
        /** The tracker names an iteration that is not there or not complete. */
        readonly code: 'tracker-ahead'
        readonly iteration: CheckpointIteration
        readonly newestComplete: CheckpointIteration | undefined
      }
    | {
        /** A later iteration than the tracker's is complete. */
        readonly code: 'tracker-behind'
        readonly iteration: CheckpointIteration
        readonly newestComplete: CheckpointIteration
      }
    | ({ readonly code: 'rank-missing'; readonly tp: number; readonly stage: number } & Wrong)
    | ({
        /** Rank folders of two layouts lie side by side. */
        readonly code: 'rank-foreign'
      } & Wrong)
    | ({ readonly code: 'file-damaged'; readonly offset: number | undefined } & Wrong)
    | ({ readonly code: 'weights-wrong'; readonly offset: number | undefined } & Wrong)
    | ({ readonly code: 'args-differ'; readonly field: string } & Wrong)
    | ({ readonly code: 'optimizer-missing' } & Wrong)
    | ({ readonly code: 'dtype-mixed' } & Wrong)
    | ({ readonly code: 'copies-differ'; readonly tensor: string } & Wrong)
    | ({ readonly code: 'manifest-differs'; readonly tensor: string | undefined } & Wrong)
    | { readonly code: 'foreign-file'; readonly found: string }
    | { readonly code: 'not-understood'; readonly found: string }
  )

/** One line of text for a finding: what, both numbers, where. */
export function findingText(finding: Finding): string {
  return printable(`${finding.severity === 'error' ? '✗' : '!'} ${finding.path}: ${what(finding)}`)
}

function what(finding: Finding): string {
  switch (finding.code) {
    case 'tracker-missing':
      return 'there is no tracker file'
    case 'tracker-garbled':
      return `the tracker holds ${finding.found}, neither a number nor 'release'`
    case 'tracker-ahead':
      return `the tracker names iteration ${finding.iteration}, which is not complete`
    case 'tracker-behind':
      return `the tracker names iteration ${finding.iteration}, ${finding.newestComplete} is complete, too`
    case 'foreign-file':
      return `${finding.found} is no part of the checkpoint`
    case 'not-understood':
      return finding.found
    default:
      return `expected ${finding.expected}, found ${finding.found}`
  }
}
