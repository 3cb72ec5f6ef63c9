import { z } from 'zod'
import { askService, checkRequest } from '../ask-service.ts'
import type { Transport } from '../transport.ts'

/** An authorization as it is asked for: keys of users are not handed over, agencies are named. */
export const AuthorizationRequest = z.strictObject({
  /** A user's id, or all users of the account: `all-users`. */
  user_id: z.string().min(1),
  type: z.literal('agency'),
  /** Name of the agency. */
  content: z.string().min(1),
})
export type AuthorizationRequest = z.output<typeof AuthorizationRequest>

/** An authorization as the service tells of it. Of an access key, `content` is left unread. */
export const Authorization = z.object({
  user_id: z.string().nullish(),
  user_name: z.string().nullish(),
  type: z.string().nullish(),
})
export type Authorization = z.output<typeof Authorization>

/** What users let ModelArts read in their name: OBS, SWR and SFS. Without it jobs are refused (`ModelArts.2785`). */
export interface Authorizations {
  list(signal?: AbortSignal): Promise<readonly Authorization[]>
  /** Sets a user's authorization, in place of the one before; doing it twice is doing it once. */
  set(authorization: AuthorizationRequest, signal?: AbortSignal): Promise<void>
  /** Creates the agency `ma_agency_…` that ModelArts may take on; gives its name. One that exists stays as it is. */
  createAgency(suffix: string, signal?: AbortSignal): Promise<string>
}

const AgencyRequest = z.strictObject({ agency_name_suffix: z.string().regex(/^[\w-]{1,50}$/) })

/**
 * ModelArts' authorizations over `transport`.
 * Source: API reference, "Viewing an Authorization List", "Configuring Authorization", "Creating a ModelArts Agency".
 */
export function authorizations(transport: Transport): Authorizations {
  const ask = askService(transport, { service: 'modelarts', version: 'v2' })
  return {
    async list(signal) {
      const schema = z.looseObject({ auth: z.array(Authorization).nullish() })
      return (await ask({ method: 'GET', path: ['authorizations'], query: { limit: 1000 }, signal }, schema)).auth ?? []
    },
    async set(authorization, signal) {
      const body = checkRequest(AuthorizationRequest, authorization, 'authorization')
      await ask({ method: 'POST', path: ['authorizations'], body, isRepeatable: true, signal }, z.unknown())
    },
    async createAgency(suffix, signal) {
      const body = checkRequest(AgencyRequest, { agency_name_suffix: suffix }, 'agency')
      const schema = z.looseObject({ agency_name: z.string().nullish() })
      const wanted = { method: 'POST', path: ['agency'], body, isRepeatable: true, signal } as const
      return (await ask(wanted, schema)).agency_name ?? `ma_agency_${suffix}`
    },
  }
}
