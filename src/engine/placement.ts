import { PlanError } from '../errors.ts'
import { local } from '../executors/local/local.ts'
import { bodyOf, type Call } from '../flow/call.ts'
import type { Executor } from '../flow/executor.ts'

/** Where jobs run: one executor for all, or by name of the call, then of the step, then `default`; else `local()`. */
export type Placement = Executor | { readonly default?: Executor; readonly [step: string]: Executor | undefined }

/**
 * The executor of each job call.
 * @throws PlanError for a name that is no call and no step of this graph, or a function step that is named.
 */
export function placeCalls(calls: readonly Call[], on: Placement | undefined): (call: Call) => Executor | undefined {
  const byName = on === undefined ? {} : isExecutor(on) ? { default: on } : on
  const jobs = calls.filter(call => bodyOf(call).kind === 'job')
  for (const name of Object.keys(byName)) {
    if (name === 'default' || jobs.some(call => names(call).includes(name))) continue
    const known = [...new Set(jobs.flatMap(names))]
    const isFunction = calls.some(call => names(call).includes(name))
    throw new PlanError(
      isFunction
        ? `on.${name}: ${name} is a function step; it runs in this process and takes no executor.`
        : `on.${name}: there is no such call or step in this graph; its jobs are ${known.join(', ') || 'none'}.`,
    )
  }
  const fallback = byName.default ?? local()
  const find = (call: Call) =>
    names(call)
      .map(name => byName[name])
      .find(executor => executor) ?? fallback
  return call => (bodyOf(call).kind === 'job' ? find(call) : undefined)
}

const names = (call: Call): readonly string[] => [call.name, call.step.spec.name]

function isExecutor(on: Placement): on is Executor {
  return typeof (on as Partial<Executor>).submit === 'function'
}
