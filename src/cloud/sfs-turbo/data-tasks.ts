import { z } from 'zod'
import { askService, checkRequest, orNone } from '../ask-service.ts'
import { type CreateOptions, createOnce } from '../create-once.ts'
import { listRows } from '../list-rows.ts'
import type { Transport } from '../transport.ts'
import { type WaitOptions, waitUntil } from '../wait-until.ts'

/** A copy between a bucket and the folder of a share that stands for it. */
export const DataTaskRequest = z.strictObject({
  /**
   * `import`: names and attributes, content with the first read; `import_metadata`: the same with default attributes;
   * `preload`: content too; `export`: what is new or changed goes to the bucket.
   */
  type: z.enum(['import', 'import_metadata', 'preload', 'export']),
  /** Folder of the target. */
  target: z.string().min(1),
  /** Path inside the bucket or, for `export`, inside the folder; absent: everything. */
  prefix: z
    .string()
    .min(1)
    .max(1024)
    .regex(/^(?!\.)[^\\:*?"<>|]+(?<!\.)$/, 'a path without \\ : * ? " < > |, with no dot first or last')
    .optional(),
})
export type DataTaskRequest = z.output<typeof DataTaskRequest>

/** A task as the service tells of it: no percentage, no bytes. */
export const DataTask = z.looseObject({
  task_id: z.string(),
  type: z.string().nullish(),
  /** DOING, SUCCESS, FAIL, DELETING. */
  status: z.string().nullish(),
  src_target: z.string().nullish(),
  src_prefix: z.string().nullish(),
  message: z.string().nullish(),
})
export type DataTask = z.output<typeof DataTask>

/** Copies between OBS and one share. */
export interface DataTasks {
  list(signal?: AbortSignal): Promise<readonly DataTask[]>
  /** Undefined when there is none. */
  get(id: string, signal?: AbortSignal): Promise<DataTask | undefined>
  /** Starts a task and gives its id; the one that was started already when the answer is lost. */
  start(request: DataTaskRequest, options?: CreateOptions): Promise<string>
  /** Waits for its success. @throws ServiceError when it failed, with what it said. */
  waitDone(id: string, options?: WaitOptions): Promise<DataTask>
  /** Takes it off the list; one that runs is ended. */
  remove(id: string, signal?: AbortSignal): Promise<void>
}

const noTask = orNone('SFS.TURBO.0106')

/**
 * Data tasks of the share `shareId` over `transport`.
 * Source: SFS Turbo's API reference, "Creating an Import or Export Task": its path has no `/shares/`.
 */
export function dataTasks(transport: Transport, shareId: string): DataTasks {
  const ask = askService(transport, { service: 'sfs-turbo', version: 'v1' })
  const path = ['sfs-turbo', shareId, 'hpc-cache'] as const
  const list = (signal?: AbortSignal) =>
    listRows(ask, { path: [...path, 'tasks'], key: 'tasks', row: DataTask, pageSize: 1000 }, signal)
  const get = (id: string, signal?: AbortSignal) =>
    ask({ method: 'GET', path: [...path, 'task', id], signal }, DataTask).catch(noTask)

  return {
    list,
    get,
    async start(request, options) {
      const { type, target, prefix } = checkRequest(DataTaskRequest, request, 'data task')
      const paths = prefix === undefined ? {} : { src_prefix: prefix, dest_prefix: prefix }
      const body = { type, src_target: target, dest_target: target, ...paths }
      const signal = options?.signal
      // Tasks have no name: ours is the one of the same content that was not there before.
      const before = new Set((await list(signal)).map(({ task_id }) => task_id))
      const isOurs = (task: DataTask) =>
        !before.has(task.task_id) &&
        task.type === type &&
        task.src_target === target &&
        (task.src_prefix || undefined) === prefix
      const wanted = { method: 'POST', path: [...path, 'task'], body, signal } as const
      const task = await createOnce(
        { find: async () => (await list(signal)).find(isOurs), create: () => ask(wanted, DataTask) },
        options,
      )
      return task.task_id
    },
    async waitDone(id, options) {
      const seen = await waitUntil(
        {
          ...{ service: 'sfs-turbo', what: `task ${id} of share ${shareId}` },
          look: () => get(id, options?.signal),
          stateOf: task => task?.status ?? 'gone',
          progress: task => {
            if (task?.status === 'SUCCESS') return 'reached'
            if (!task || task.status === 'DELETING') return { failed: 'it was deleted' }
            return task.status === 'FAIL' ? { failed: `it failed${task.message ? `: ${task.message}` : ''}` } : 'coming'
          },
        },
        options,
      )
      return seen!
    },
    remove: (id, signal) =>
      ask({ method: 'DELETE', path: [...path, 'task', id], signal }, z.unknown()).then(() => undefined, noTask),
  }
}
