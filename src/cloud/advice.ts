import { ServiceError } from '../errors.ts'

/**
 * What a caller can do about refusals, by code. Source: the tables of error codes in the API references of ModelArts and
 * SFS Turbo, and what live messages were seen to mean.
 */
const advice: Readonly<Record<string, string>> = {
  'ModelArts.0118': 'Ask for a larger quota, or end jobs that are not needed.',
  'ModelArts.2751': 'Another job has that name: choose another, or delete that job and wait until it is gone.',
  'ModelArts.2763': 'List what the pool offers with flavors(), and name one of them as flavorId.',
  'ModelArts.2775': 'The job is not in this project and region; it may have been deleted.',
  'ModelArts.2781':
    "A dedicated pool takes flavors by devices, 'modelarts.pool.visual.8xlarge' for 8, not the flavor of its nodes; leave flavorId out to have it chosen.",
  'ModelArts.2784': 'The token has expired: pass a function as credentials that gives fresh ones.',
  'ModelArts.2785':
    'ModelArts is not yet allowed to read OBS, SWR and SFS for this user: create the authorization (agency) once, on the page "Permission Management" of the console.',
  'ModelArts.2786': 'projectId is not the project of these credentials in this region: leave it out to have it found.',
  'ModelArts.2793': 'Ask for at most as many nodes as the pool has.',
  'ModelArts.2796': 'The job has ended already.',
  'ModelArts.2810':
    "Name the image as 'organisation/name:tag' in the SWR of the same region, without the registry's host.",
  'ModelArts.2815': 'Ask for fewer nodes, or wait until others are free.',
  'ModelArts.2837': 'The account is frozen: look at its balance.',
  'ModelArts.2845': 'An image may have 30 GB at most.',
  'ModelArts.2855': 'Outside a dedicated pool the image must not run as root.',
  'ModelArts.2886': 'The pool is not for training: add "Train" to its scope, or choose another.',
  'ModelArts.2887': 'The pool is not running: look at its state, and wait or choose another.',
  'ModelArts.2890': "poolId is the pool's id ('pool-…'), not the name that the console shows.",
  'SFS.TURBO.0004': 'Name a VPC of this region and project.',
  'SFS.TURBO.0006': "Name the network id of a subnet of the share's VPC.",
  'SFS.TURBO.0008': 'Sizes are multiples of 1.2 TiB: 3686, 4915, 6144, 8601, 11059 GiB.',
  'SFS.TURBO.0009': 'Another share has that name: choose another, or use that share.',
  'SFS.TURBO.0010': 'Ask for a larger quota of SFS Turbo, or for a smaller share.',
  'SFS.TURBO.0011': 'Something else is being done to the share: wait until it is over.',
  'SFS.TURBO.0012': 'A share that is paid by the month or year is deleted in the console.',
}

/** Puts what to do beside a refusal that has a code known here; other errors as they are. */
export function withAdvice(error: unknown): unknown {
  if (!(error instanceof ServiceError) || error.serviceCode === undefined) return error
  const hint = advice[error.serviceCode]
  if (hint === undefined) return error
  const { service, status, serviceCode, requestId, retryable, cause } = error
  const said = error.hint ? error.message.slice(0, -error.hint.length).trimEnd() : error.message
  return new ServiceError(said, { service, status, serviceCode, requestId, retryable, hint, cause })
}

/** Codes that say that a thing is not there; the service answers them with status 400 as well as 404. */
export function isNotFound(error: unknown): boolean {
  return (
    error instanceof ServiceError &&
    ['ModelArts.2775', 'ModelArts.2890', 'ModelArts.2881'].includes(error.serviceCode ?? '')
  )
}
