// What machines do to jobs: a disk fills up while a checkpoint is saved, connections are cut, a host loses its power.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { diagnose, plan, ssh } from 'ascendflow'
import { missingServer, sshServer } from '../executors/ssh-server.ts'
import { begin, environment, generator, jobsIn, storeOf, training } from './place.ts'

/** The disk has room for the first checkpoint and not for the second: told once, and gone on with once there is room. */
export async function disk(dir: string): Promise<number> {
  const whole = await begin(dir, training(dir, 20_000)).done
  const bytes = bytesBelow(join(whole.path, 'iter_0000005'))
  const target = training(dir, 20_001)
  const { steps } = await plan(target, { store: storeOf(dir) })
  const key = steps.find(({ step }) => step === 'train')!.key.slice(0, 12)
  const save = join(storeOf(dir), 'steps', `train-${key}`, 'work', 'checkpoint')
  mkdirSync(save, { recursive: true })
  const mount = (...words: string[]) => execFileSync('mount', words, { stdio: 'ignore' })
  mount('-t', 'tmpfs', '-o', `size=${Math.ceil(1.6 * bytes)}`, 'tmpfs', save)
  try {
    const before = jobsIn(dir)
    const first = begin(dir, target)
    const told = await first.done.catch(error => error as Error)
    const { newestComplete } = await diagnose(save)
    mount('-o', `remount,size=${10 * bytes}`, save)
    const second = begin(dir, target)
    const output = await second.done
    const jobs = jobsIn(dir) - before
    const isRight =
      told instanceof Error &&
      `${first.kinds}` === 'disk-full' &&
      newestComplete === 5 &&
      jobs === 2 &&
      output.iteration === 14 &&
      /^goes on from iteration 5;/.test(second.lines[0] ?? '')
    const line = `${first.kinds}; newest complete ${newestComplete}; ${second.lines}; ${jobs} jobs`
    console.log(`${isRight ? 'ok   ' : 'WRONG'} ${bytes} bytes a checkpoint: ${line}`)
    return isRight ? 0 : 1
  } finally {
    execFileSync('umount', ['--lazy', save])
  }
}

/** The line is cut three times in each training: the job goes on, is followed again, and is the only one. */
export async function cuts(dir: string, { moments, seed }: { moments: number; seed: number }): Promise<number> {
  return withHost(dir, 60_000, async (server, executor) => {
    const random = generator(seed + 2)
    let wrong = 0
    for (let n = 0; n < moments; n++) {
      const before = jobsIn(dir)
      const { kinds, done } = begin(dir, training(dir, 30_000 + n), executor())
      const isOver = done.then(() => true)
      let cut = 0
      for (let time = 0; time < 3; time++)
        if (!(await Promise.race([isOver, sleep(random() * 1_500, false)]))) cut += server.cut() > 0 ? 1 : 0
      const { iteration } = await done
      const jobs = jobsIn(dir) - before
      const isRight = kinds.length === 0 && jobs === 1 && iteration === 14
      if (!isRight) wrong++
      console.log(`${isRight ? 'ok   ' : 'WRONG'} cut ${cut} times: ${kinds.join(', ') || 'unnoticed'}; ${jobs} jobs`)
    }
    return wrong
  })
}

/** All processes of the host are killed, its server too; it comes back, and the training goes on from what it saved. */
export async function nodes(dir: string, { moments, seed }: { moments: number; seed: number }): Promise<number> {
  return withHost(dir, 2_500, async (server, executor) => {
    const random = generator(seed + 3)
    let wrong = 0
    for (let n = 0; n < moments; n++) {
      const before = jobsIn(dir)
      const { running, kinds, lines, done } = begin(dir, training(dir, 40_000 + n), executor())
      const at = 1 + Math.floor(random() * 13)
      await new Promise<void>(resolve =>
        running.on('step.metrics', ({ values }) => void (values.iteration! >= at && resolve())),
      )
      await server.crash()
      await new Promise<void>(resolve => {
        running.on('step.retrying', () => resolve())
        void done.catch(() => {}).then(() => resolve())
      })
      await server.start()
      const output = await done.catch((error: Error) => error)
      const jobs = jobsIn(dir) - before
      const isWell = !(output instanceof Error) && output.iteration === 14
      const isRight = isWell && `${kinds}` === 'lost-node' && jobs === 2
      if (!isRight) wrong++
      console.log(
        `${isRight ? 'ok   ' : 'WRONG'} gone after iteration ${at}: ${kinds}; ${lines.at(-1) ?? 'begins'}; ${jobs} jobs${isWell ? '' : `; ${output}`}`,
      )
    }
    return wrong
  })
}

type Host = Awaited<ReturnType<typeof sshServer>>

async function withHost(
  dir: string,
  lostAfterMs: number,
  campaign: (server: Host, executor: () => ReturnType<typeof ssh>) => Promise<number>,
): Promise<number> {
  const reason = missingServer()
  if (reason) {
    console.log(`not done: ${reason}`)
    return 1
  }
  const server = await sshServer(join(dir, `sshd-${Date.now()}`), { isolated: true })
  const options = { hosts: [server.host], ...server.options, env: environment(dir), devicesPerNode: 1 }
  const waits = { lostAfterMs, killAfterMs: 1_000 }
  try {
    return await campaign(server, () =>
      ssh({ ...options, ...waits, sharedRoot: ['/tmp', '/work'], jobRoot: join(dir, 'jobs') }),
    )
  } finally {
    await server.crash()
  }
}

function bytesBelow(dir: string): number {
  const entries = readdirSync(dir, { recursive: true, encoding: 'utf8' }).map(name => statSync(join(dir, name)))
  return entries.filter(entry => entry.isFile()).reduce((sum, { size }) => sum + Math.ceil(size / 4_096) * 4_096, 0)
}
