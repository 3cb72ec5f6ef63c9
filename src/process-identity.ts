import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'

/** Names one process for ever: a pid alone is used again by the system. */
export interface ProcessIdentity {
  readonly host: string
  readonly pid: number
  /** Boot of the machine and start time within it; empty where the system does not tell (no /proc). */
  readonly started: string
}

/** Identity of the process `pid` on this machine, or undefined when there is none (a zombie counts as none). */
export function processIdentity(pid: number = process.pid): ProcessIdentity | undefined {
  const host = hostname()
  const stat = procStat(pid)
  if (stat === undefined) return signalReaches(pid) ? { host, pid, started: '' } : undefined
  // Fields after the command name, which may hold anything: state is field 3, start time field 22 (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined
  return { host, pid, started: `${bootId()}:${fields[19]}` }
}

/** True when exactly this process is alive on this machine; always false for a process of another host. */
export function isAlive(identity: ProcessIdentity): boolean {
  if (identity.host !== hostname()) return false
  const now = processIdentity(identity.pid)
  return now !== undefined && now.started === identity.started
}

function procStat(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return undefined
  }
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
  } catch {
    return ''
  }
}

function signalReaches(pid: number): boolean {
  if (process.platform === 'linux') return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
