import { basename, join } from 'node:path'
import type { Generation } from '../ascendspeed/generations.ts'
import type { ToolchainFault, ToolchainFaultKind } from './faults.ts'

/** What one process of a toolchain double knows and can do. */
export interface Tool {
  /** Root of the checkout. */
  readonly tree: string
  readonly generation: Generation
  readonly env: Readonly<Record<string, string | undefined>>
  readonly pid: number
  /** The script as it was called. */
  readonly script: string
  /** Faults that this run has taken. */
  readonly faults: readonly ToolchainFault[]
  print(line: string): void
  printError(line: string): void
  /** Has `act` called when the process is told to stop, which then does not end it. */
  onTerminate(act: (signal: NodeJS.Signals) => void): void
  /** Ends this process as the kernel would when memory runs out. */
  kill(): never
  /** Never comes back, and does nothing: the process has to be ended from outside. */
  hang(): Promise<never>
}

/** The fault of that kind, if the run has it and it may happen at `iteration`. */
export function faultAt(
  { faults }: Tool,
  kind: ToolchainFaultKind,
  iteration = Number.POSITIVE_INFINITY,
): ToolchainFault | undefined {
  return faults.find(fault => fault.kind === kind && iteration >= (fault.at ?? 1))
}

/** Folder for what a run needs itself; goes with the tree. */
export function scratchFolder({ tree, pid }: Tool): string {
  return join(tree, '.double', 'runs', String(pid))
}

/** Whether it logs with Python's `logging` where the first two generations print. */
export const logsToStderr = ({ generation }: Tool) => generation === 'modellink-rc3' || generation === 'mindspeed-llm'

/** Name of the toolchain's package, as its loggers and paths have it. */
export const packageName = ({ generation }: Tool) => (generation === 'mindspeed-llm' ? 'mindspeed_llm' : 'modellink')

/** Prints what Python prints of an exception that nobody catches; gives its exit status, 1. */
export function raise(tool: Tool, error: string): number {
  tool.printError('Traceback (most recent call last):')
  tool.printError(`  File "${tool.script}", line 1, in <module>`)
  tool.printError('    main()')
  for (const line of error.split('\n')) tool.printError(line)
  return 1
}

/** Name of the script, as argparse calls its program. */
export const programName = ({ script }: Tool) => basename(script)
