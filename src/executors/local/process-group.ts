import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ProcessIdentity, processIdentity } from '../../process-identity.ts'

/** True while any process of the group that `leader` founded is alive; zombies are not. */
export function groupLives(leader: ProcessIdentity): boolean {
  const now = processIdentity(leader.pid)
  // A number is not used again while its group has members: another process with it means that the group is gone.
  if (now && now.started !== leader.started) return false
  if (now) return true
  try {
    process.kill(-leader.pid, 0)
  } catch {
    return false
  }
  return process.platform === 'linux' ? hasLiveMember(leader.pid) : true
}

/** Ends the whole group: TERM, and KILL when it is still there after `graceMs`. Resolves when nothing is left. */
export async function endGroup(leader: ProcessIdentity, graceMs: number): Promise<void> {
  if (!groupLives(leader)) return
  signalGroup(leader, 'SIGTERM')
  const deadline = Date.now() + graceMs
  while (Date.now() < deadline) {
    if (!groupLives(leader)) return
    await sleep(20)
  }
  while (groupLives(leader)) {
    signalGroup(leader, 'SIGKILL')
    await sleep(20)
  }
}

function signalGroup({ pid }: ProcessIdentity, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function hasLiveMember(group: number): boolean {
  return readdirSync('/proc').some(entry => {
    if (!/^\d+$/.test(entry)) return false
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1')
      // After the command name: state, parent, process group (proc(5)).
      const [state, , member] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      return Number(member) === group && state !== 'Z' && state !== 'X'
    } catch {
      return false
    }
  })
}
