import type { z } from 'zod'
import { InputError, ServiceError } from '../errors.ts'
import { withAdvice } from './advice.ts'
import type { CloudService } from './endpoints.ts'
import type { CloudAnswer, CloudRequest, Transport } from './transport.ts'

/** Makes a request below a service's version and the project, and reads its answer by `schema`. */
export type Ask = <T extends z.ZodType>(wanted: Omit<CloudRequest, 'service'>, schema: T) => Promise<z.output<T>>

/** How one service is asked: `path` of a request stands behind `/{version}/{project}`. */
export function askService(
  transport: Transport,
  { service, version }: { readonly service: CloudService; readonly version: 'v1' | 'v2' },
): Ask {
  return async (wanted, schema) => {
    const project = await transport.projectId(wanted.signal)
    const answer = await transport
      .request({ ...wanted, service, path: [version, project, ...wanted.path] })
      .catch(error => Promise.reject(withAdvice(error)))
    return readAnswer(schema, answer, { service, what: wanted.path.join('/') })
  }
}

/** Takes an answer apart. @throws ServiceError naming the first field that is not understood. */
export function readAnswer<T extends z.ZodType>(
  schema: T,
  { body, status }: CloudAnswer,
  { service, what }: { readonly service: string; readonly what: string },
): z.output<T> {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  const field = parsed.error.issues[0]?.path.map(String).join('.')
  throw new ServiceError(`${service} ${what}: the answer${field ? `'s ${field}` : ''} is not understood.`, {
    service,
    status,
    retryable: false,
    cause: parsed.error,
  })
}

/** A request's body that has exactly the fields of `schema`. @throws InputError naming the first that is wrong. */
export function checkRequest<T extends z.ZodType>(schema: T, body: unknown, what: string): z.output<T> {
  const checked = schema.safeParse(body)
  if (checked.success) return checked.data
  const issue = checked.error.issues[0]
  const field = issue?.path.map(String).join('.')
  throw new InputError(`${what}: ${field ? `${field}: ` : ''}${issue?.message}.`, { field, cause: checked.error })
}

/** Status 404 with these is not of a thing that is missing: the wrong project, a path that the service does not know. */
const otherNotFound = ['ModelArts.2786', 'ModelArts.2836']

/** Undefined for a thing that is not there, by one of `codes` or status 404. @throws any other error. */
export function orNone(...codes: readonly string[]): (error: unknown) => undefined {
  return error => {
    if (!(error instanceof ServiceError)) throw error
    const { status, serviceCode = '' } = error
    if (codes.includes(serviceCode) || (status === 404 && !otherNotFound.includes(serviceCode))) return undefined
    throw error
  }
}
