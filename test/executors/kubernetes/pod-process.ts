import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'

/** A line of a container's log as the node keeps it. */
export interface LogEntry {
  /** ISO time with nanoseconds, in the node's own time zone. */
  readonly time: string
  readonly text: string
  /** False for what a program left unfinished when it ended. */
  readonly isWhole: boolean
}

export interface ContainerEnd {
  readonly exitCode: number
  readonly reason: string
  readonly message?: string
  readonly finishedAt: string
}

/** A pod's only container, run as a process group of this machine. */
export interface PodProcess {
  readonly log: readonly LogEntry[]
  readonly end: ContainerEnd | undefined
  readonly ended: Promise<ContainerEnd>
  onLog(listener: () => void): void
  /** TERM to the command, KILL to all that is left when the grace is over. */
  stop(graceSeconds: number): Promise<void>
  /** As the kernel does when memory runs out. */
  kill(): void
}

/** Starts `command` as a node does: `$(NAME)` replaced from the container's variables, `$$` by `$`. */
export function startPod(command: readonly string[], env: Readonly<Record<string, string>>): PodProcess {
  const [program = '', ...args] = command.map(word => expand(word, env))
  const log: LogEntry[] = []
  const listeners: (() => void)[] = []
  let end: ContainerEnd | undefined
  const add = (text: string, isWhole: boolean) => {
    log.push({ time: nodeTime(), text, isWhole })
    for (const listener of listeners) listener()
  }
  // A container ends with all that was started in it, sessions of their own included: found by a mark in their variables.
  const mark = `POD_UID=${randomUUID()}`
  const child = spawn(program, args, {
    ...{ detached: true, stdio: ['ignore', 'pipe', 'pipe'] },
    env: { PATH: process.env.PATH ?? '', ...env, POD_UID: mark.slice('POD_UID='.length) },
  })
  const killAll = () => {
    for (const pid of readdirSync('/proc').filter(entry => /^\d+$/.test(entry))) {
      try {
        if (readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(mark))
          process.kill(Number(pid), 'SIGKILL')
      } catch {
        // Gone already, or another user's.
      }
    }
  }
  const ended = (async (): Promise<ContainerEnd> => {
    const reading = [child.stdout!, child.stderr!].map(stream => readLines(stream, add))
    const finished = await exitOf(child)
    // With the first process of a container, all of it ends.
    killAll()
    await Promise.all(reading)
    end = { ...finished, finishedAt: new Date().toISOString() }
    for (const listener of listeners) listener()
    return end
  })()
  return {
    log,
    ended,
    get end() {
      return end
    },
    onLog: listener => void listeners.push(listener),
    kill: killAll,
    async stop(graceSeconds) {
      child.kill('SIGTERM')
      const timer = setTimeout(killAll, graceSeconds * 1000)
      await ended
      clearTimeout(timer)
    },
  }
}

/** Source: kubernetes, third_party/forked/golang/expansion/expand.go. */
export function expand(word: string, env: Readonly<Record<string, string>>): string {
  return word.replaceAll(/\$\$|\$\(([^)]*)\)/g, (all, name) => (all === '$$' ? '$' : (env[name] ?? all)))
}

async function exitOf(child: ChildProcess): Promise<Pick<ContainerEnd, 'exitCode' | 'reason' | 'message'>> {
  try {
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
    const exitCode = code ?? (signal === 'SIGTERM' ? 143 : 137)
    return { exitCode, reason: exitCode === 0 ? 'Completed' : 'Error' }
  } catch (error) {
    const message = `failed to create containerd task: ${(error as Error).message}`
    return { exitCode: 128, reason: 'StartError', message }
  }
}

async function readLines(stream: AsyncIterable<Buffer>, add: (text: string, isWhole: boolean) => void): Promise<void> {
  const decoder = new TextDecoder()
  let partial = ''
  for await (const chunk of stream) {
    const lines = (partial + decoder.decode(chunk, { stream: true })).split('\n')
    partial = lines.pop() ?? ''
    for (const line of lines) add(line, true)
  }
  if (partial !== '') add(partial, false)
}

/** As a node in Shanghai writes it. */
function nodeTime(): string {
  const now = Date.now()
  const local = new Date(now + 8 * 3600 * 1000).toISOString().slice(0, -1)
  return `${local}${String(now % 1_000_000).padStart(6, '0')}+08:00`
}
