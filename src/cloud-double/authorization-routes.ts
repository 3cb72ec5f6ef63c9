import { fields } from './job-rules.ts'
import { Refusal } from './refusal.ts'
import { bodyOf, type ThingRoute } from './things.ts'

/** Authorizations and agencies, below `/v2/{project}/`. */
export interface AuthorizationRoutes {
  readonly answer: ThingRoute
  readonly isAuthorized: boolean
}

export function authorizationRoutes({ isAuthorized }: { readonly isAuthorized: boolean }): AuthorizationRoutes {
  const agencies = new Set(['modelarts_agency'])
  const auth = isAuthorized ? [{ user_id: 'all-users', type: 'agency', content: 'modelarts_agency' }] : []
  return {
    answer([resource], request) {
      if (resource === 'agency' && request.method === 'POST') {
        const { agency_name_suffix } = fields(bodyOf(request), 'agency', ['agency_name_suffix'])
        agencies.add(`ma_agency_${agency_name_suffix}`)
        return { status: 200, body: { agency_name: `ma_agency_${agency_name_suffix}` } }
      }
      if (resource !== 'authorizations') return undefined
      if (request.method === 'GET') return { status: 200, body: { total_count: auth.length, auth } }
      if (request.method !== 'POST') return undefined
      const { user_id, type, content } = fields(bodyOf(request), 'authorization', ['user_id', 'type', 'content'])
      if (type !== 'agency' || typeof user_id !== 'string' || typeof content !== 'string' || !agencies.has(content))
        throw new Refusal(400, 'ModelArts.0104', 'The agency does not exist.')
      const at = auth.findIndex(each => each.user_id === user_id)
      auth.splice(at === -1 ? auth.length : at, 1, { user_id, type, content })
      return { status: 200, body: { result: 'true' } }
    },
    get isAuthorized() {
      return auth.length > 0
    },
  }
}
