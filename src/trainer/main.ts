import { isFlowError } from '../errors.ts'
import { parseArguments, type TrainOptions } from './arguments.ts'
import { trainModel } from './loop.ts'

process.exitCode = await runProgram(process.argv.slice(2))

/** Exit status: 0 finished, or stopped by SIGTERM after saving; 1 failed; 2 wrong arguments. */
async function runProgram(argv: readonly string[]): Promise<number> {
  let options: TrainOptions
  try {
    options = parseArguments(argv)
  } catch (error) {
    return fail(error, 2)
  }
  const stop = new AbortController()
  // A group and its leader may both pass the signal on: a second one changes nothing.
  process.on('SIGTERM', () => stop.abort())
  try {
    await trainModel(options, { signal: stop.signal, print: line => process.stdout.write(`${line}\n`) })
    return 0
  } catch (error) {
    return fail(error, 1)
  }
}

function fail(error: unknown, status: number): number {
  process.stderr.write(
    `${isFlowError(error) ? `${error.name}: ${error.message}` : error instanceof Error ? error.stack : error}\n`,
  )
  return status
}
