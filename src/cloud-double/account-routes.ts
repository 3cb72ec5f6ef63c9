import { authorizationRoutes } from './authorization-routes.ts'
import type { StoredTask } from './data-task-routes.ts'
import type { DoubleAnswer, DoubleRequest } from './double-request.ts'
import { imageRoutes, type StoredImage } from './image-routes.ts'
import type { DoublePool } from './job-rules.ts'
import { networkRoutes, type StoredNetwork } from './network-routes.ts'
import { notebookRoutes, type StoredNotebook } from './notebook-routes.ts'
import { type StoredShare, type StoredTarget, shareRoutes } from './share-routes.ts'
import { type DoubleKind, type ThingsOptions, things } from './things.ts'

export interface AccountOptions extends ThingsOptions {
  readonly pools: readonly DoublePool[]
  readonly isAuthorized: boolean
  readonly refusesSameName: boolean
  readonly usedGib: number
  hasBucket(name: string): boolean
}

/** What an account has besides training jobs and objects. */
export interface AccountRoutes {
  /** Undefined for a path that is not theirs; `path` begins behind the project. */
  answer(version: string, path: readonly string[], request: DoubleRequest): DoubleAnswer | undefined
  readonly isAuthorized: boolean
  readonly things: readonly { readonly kind: DoubleKind; readonly id: string; readonly name: string }[]
}

export function accountRoutes(options: AccountOptions): AccountRoutes {
  const authorizations = authorizationRoutes(options)
  const networks = things<StoredNetwork>('network', options)
  const links = things<{ networkId: string; shareId: string }>('link', options)
  const shares = things<StoredShare>('share', options)
  const targets = things<StoredTarget>('target', options)
  const tasks = things<StoredTask>('task', options)
  const images = things<StoredImage>('image', options)
  const notebooks = things<StoredNotebook>('notebook', options)
  const hasShare = (id: string) => shares.all.some(share => share.id === id)
  const { pools, hasBucket, usedGib } = options
  const ofNetworks = networkRoutes({ pools, networks, links, hasShare })
  const first = [
    imageRoutes(images, options),
    notebookRoutes({ notebooks, images, pools, hasShare }),
    shareRoutes({ shares, targets, tasks, usedGib, hasBucket }),
  ]
  const routes: Readonly<Record<string, typeof first>> = {
    v1: [ofNetworks, ...first],
    v2: [authorizations.answer, ofNetworks],
  }
  return {
    answer(version, path, request) {
      for (const route of routes[version] ?? []) {
        const answer = route(path, request)
        if (answer) return answer
      }
      return undefined
    },
    get isAuthorized() {
      return authorizations.isAuthorized
    },
    get things() {
      const all = [networks, shares, links, targets, tasks, images, notebooks]
      return all.flatMap(kind => kind.all.map(({ kind, id, name }) => ({ kind, id, name })))
    },
  }
}
