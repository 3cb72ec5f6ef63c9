// The leader of a local job's process group: claims the job, runs its command, writes down how it ended.
// Arguments: the job's folder, the folder to run in or nothing, then the command. It outlives the process that started it.
import { spawn } from 'node:child_process'
import { existsSync, openSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { siblingTemp } from '../../formats/atomic-file.ts'
import { processIdentity } from '../../process-identity.ts'
import { claimFile } from '../claim-file.ts'
import type { JobExit } from './job-files.ts'

const [dir = '', cwd = '', command = '', ...args] = process.argv.slice(2)

// Signals to the group reach the command too; this process stays to write down what became of it.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => {})

if (claimFile(join(dir, 'process.json'), JSON.stringify(processIdentity()))) {
  // A wrong folder would otherwise be told as a command that is not there.
  if (cwd !== '' && !existsSync(cwd)) end({ exitCode: 127, reason: `there is no folder ${cwd} to run in` })
  else run()
}

function run(): void {
  const output = openSync(join(dir, 'log.txt'), 'a')
  const child = spawn(command, args, { stdio: ['ignore', output, output], ...(cwd === '' ? {} : { cwd }) })
  child.on('error', error => end({ exitCode: 127, reason: `cannot start ${command}: ${error.message}` }))
  child.on('exit', (exitCode, signal) => end(signal ? { reason: `killed by ${signal}` } : { exitCode: exitCode ?? 1 }))
}

function end(exit: JobExit): void {
  const path = join(dir, 'exit.json')
  const temporary = siblingTemp(path)
  writeFileSync(temporary, JSON.stringify(exit))
  renameSync(temporary, path)
  // What the command left running in the background ends with it, and so does this process.
  process.kill(-process.pid, 'SIGKILL')
}
