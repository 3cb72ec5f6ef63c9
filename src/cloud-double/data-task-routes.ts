import { fields } from './job-rules.ts'
import { Refusal } from './refusal.ts'
import { bodyOf, type DoubleThing, pageOf, type ThingRoute, type Things } from './things.ts'

export interface StoredTask {
  readonly shareId: string
  readonly body: Readonly<Record<string, unknown>>
}

export interface DataTaskRoutesOptions {
  readonly shares: Pick<Things<unknown>, 'all'>
  readonly targets: Pick<Things<{ readonly shareId: string }>, 'all'>
  readonly tasks: Things<StoredTask>
}

/** A refusal of SFS Turbo. Source: table of error codes in its API reference. */
export const sfs = (status: number, code: string, message: string) => new Refusal(status, `SFS.TURBO.${code}`, message)
export const wrong = (what: string): never => {
  throw sfs(400, '0001', `Parameter error: ${what}`)
}

/** Copies between OBS and shares, below `/v1/{project}/sfs-turbo/`; nothing is copied. */
export function dataTaskRoutes({ shares, targets, tasks }: DataTaskRoutesOptions): ThingRoute {
  return ([shareId, cache, resource, id], request) => {
    const { method, url } = request
    if (cache !== 'hpc-cache') return undefined
    if (!shares.all.some(each => each.id === shareId)) throw sfs(403, '9000', 'The share does not exist.')
    const describe = (task: DoubleThing<StoredTask>) => {
      const status = tasks.stateOf(task, { making: 'DOING', ready: 'SUCCESS' })
      return { ...task.asked.body, task_id: task.id, status, message: status === 'FAIL' ? 'No such object.' : '' }
    }
    if (resource === 'tasks' && method === 'GET') {
      const found = tasks.all.filter(({ asked }) => asked.shareId === shareId)
      return { status: 200, body: { count: found.length, tasks: pageOf(found, url).map(describe) } }
    }
    if (resource !== 'task') return undefined
    if (id === undefined && method === 'POST') {
      const body = fields(bodyOf(request), 'task', ['type', 'src_target', 'src_prefix', 'dest_target', 'dest_prefix'])
      if (!/^(import|import_metadata|preload|export)$/.test(String(body.type))) wrong('type')
      if (body.src_target !== body.dest_target || body.src_prefix !== body.dest_prefix) wrong('dest_target')
      if (!targets.all.some(({ name, asked }) => asked.shareId === shareId && name === body.src_target))
        wrong('src_target')
      return { status: 202, body: { task_id: tasks.add(String(body.type), { shareId: shareId ?? '', body }).id } }
    }
    const task = tasks.get(id)
    if (!task) throw sfs(400, '0106', 'Invalid task id.')
    if (method === 'GET') return { status: 200, body: describe(task) }
    if (method !== 'DELETE') return undefined
    tasks.remove(task, 'DELETING')
    return { status: 202 }
  }
}
