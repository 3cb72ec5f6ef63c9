// The process that runs the pipeline is killed, and runs are cancelled, at random moments.
import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { makeToolchainDouble } from 'ascendflow/testing'
import { begin, generator, jobsIn, processesIn, storeOf, toolchainOf, training } from './place.ts'

/** The driver is killed with its group; the job, a group of its own, goes on, and is followed by the next driver. */
export async function kills(dir: string, { moments, seed }: { moments: number; seed: number }): Promise<number> {
  const random = generator(seed)
  let wrong = 0
  let undisturbedMs = 0
  for (let moment = 0; moment <= moments; moment++) {
    const own = join(dir, `kill-${moment}`)
    cpSync(join(dir, 'model'), join(own, 'model'), { recursive: true })
    await makeToolchainDouble(toolchainOf(own), { generation: 'modellink-1.1' })
    const killed: number[] = []
    const started = Date.now()
    // The first is let be, to know how long there is.
    for (let time = 0; moment > 0 && time < 2; time++) {
      const child = drive(own)
      const after = random() * undisturbedMs
      await Promise.race([ended(child), sleep(after)])
      if (child.exitCode !== null) break
      process.kill(-child.pid!, 'SIGKILL')
      await ended(child)
      killed.push(Math.round(after))
    }
    const last = await ended(drive(own))
    if (moment === 0) undisturbedMs = Date.now() - started
    const jobs = jobsIn(own)
    const isProved = readdirSync(join(storeOf(own), 'steps')).some(
      name => name.startsWith('train-') && existsSync(join(storeOf(own), 'steps', name, 'record.json')),
    )
    const isRight = last === 0 && jobs === 1 && isProved
    if (!isRight) wrong++
    console.log(`${isRight ? 'ok   ' : 'WRONG'} killed after [${killed.join(', ')}] ms: exit ${last}, ${jobs} jobs`)
    rmSync(own, { recursive: true, force: true })
  }
  return wrong
}

export async function cancellations(
  dir: string,
  { cancels, seed }: { cancels: number; seed: number },
): Promise<number> {
  const random = generator(seed + 1)
  let wrong = 0
  let left = 0
  // What all trainings need is made first, so that a cancel meets a job more often than not.
  await begin(dir, training(dir, 5_000)).done
  for (let n = 0; n < cancels; n++) {
    const { running, done } = begin(dir, training(dir, 10_000 + n))
    const end = done.then(
      () => 'done',
      (error: { code?: string }) => error.code ?? String(error),
    )
    await Promise.race([end, sleep(random() * 2_500)])
    await running.cancel()
    const found = processesIn(dir)
    left += found.length
    const state = await end
    if (found.length > 0 || !['done', 'cancelled'].includes(state)) {
      wrong++
      console.log(`WRONG cancel ${n}: ${state}; left: ${found.join('; ')}`)
    }
  }
  console.log(`${cancels} cancels, ${left} orphans`)
  return wrong
}

function drive(place: string): ChildProcess {
  return spawn(process.execPath, ['--import', 'tsx', fileURLToPath(new URL('jobs.ts', import.meta.url)), 'child'], {
    detached: true,
    env: { ...process.env, ASCENDFLOW_PLACE: place },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
}

async function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await new Promise(resolve => child.on('close', resolve))
  return child.exitCode
}
