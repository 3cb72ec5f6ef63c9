import { createHash } from 'node:crypto'
import type { z } from 'zod'
import { InputError } from '../errors.ts'
import { type Artifact, isArtifact } from './artifact.ts'
import { backingOf, refsIn } from './backing.ts'
import type { Call } from './call.ts'

/** Plain JSON, as it counts in a key. */
export type Canonical =
  | null
  | boolean
  | number
  | string
  | readonly Canonical[]
  | { readonly [field: string]: Canonical }

export interface KeyFacts {
  /** Key of an upstream call. */
  keyOf(call: Call): string
  /** Identity of the files of a literal artifact, by file name. */
  fingerprintOf(artifact: Artifact): Canonical
}

/** A call's input as it counts: defaults applied, omitted fields dropped, refs as upstream keys, artifacts as files. */
export function canonicalInput(call: Call, facts: KeyFacts): { readonly [field: string]: Canonical } {
  const { spec } = call.step
  const omitted = new Set<string>((spec.omitFromKey ?? []) as readonly string[])
  const shape = spec.input.shape as Readonly<Record<string, z.ZodType>>
  const result: Record<string, Canonical> = {}
  for (const field of Object.keys(shape)) {
    if (omitted.has(field)) continue
    const given = call.input[field]
    const value = refsIn(given).length > 0 ? given : shape[field]!.parse(given)
    if (value !== undefined) result[field] = canonical(value, `${call.name}.${field}`, facts)
  }
  return result
}

/** sha256 of step, version and canonical input, in hex. */
export function callKey(call: Call, input: Canonical): string {
  const { name, version } = call.step.spec
  return createHash('sha256')
    .update(canonicalJson([name, version, input]))
    .digest('hex')
}

/** JSON with sorted fields: equal values give equal text. */
export function canonicalJson(value: Canonical): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${fields.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`
}

function canonical(value: unknown, path: string, facts: KeyFacts): Canonical {
  const backing = backingOf(value)
  if (backing) return { $ref: facts.keyOf(backing.call), path: [...backing.path] }
  if (Array.isArray(value)) return value.map((item, index) => canonical(item, `${path}.${index}`, facts))
  if (isArtifact(value)) {
    const { path: _, ...rest } = value
    return { ...(fieldsOf(rest, path, facts) as object), $files: facts.fingerprintOf(value) }
  }
  if (typeof value === 'object' && value !== null && isPlain(value)) return fieldsOf(value, path, facts)
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  // JSON writes -0 as 0, so both are one key.
  if (typeof value === 'number' && Number.isFinite(value)) return value === 0 ? 0 : value
  const what =
    typeof value === 'object'
      ? `a ${value?.constructor?.name}`
      : typeof value === 'number'
        ? value
        : `a ${typeof value}`
  throw new InputError(`${path}: ${String(what)} cannot be part of a key; use what JSON can say.`, { field: path })
}

function fieldsOf(value: object, path: string, facts: KeyFacts): Canonical {
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([key, item]) => [key, canonical(item, `${path}.${key}`, facts)]),
  )
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
