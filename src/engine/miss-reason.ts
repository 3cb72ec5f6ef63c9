import { type Canonical, canonicalJson } from '../flow/key.ts'
import type { StepRecord } from './record.ts'

/** Why there is no record for an input: its differences from the nearest earlier record of the same step. */
export function missReason(
  now: { readonly version: number; readonly input: Readonly<Record<string, Canonical>> },
  earlier: readonly StepRecord[],
  nameOfKey: (key: string) => string | undefined,
): string {
  const compared = earlier.map(record =>
    record.version === now.version
      ? differences(now.input, record.input, nameOfKey)
      : [`version ${record.version} → ${now.version}`, ...differences(now.input, record.input, nameOfKey)],
  )
  // `earlier` is newest first, and the sort is stable: of equally near ones the newest.
  const nearest = compared.sort((a, b) => a.length - b.length)[0]
  if (!nearest) return 'never run in this store'
  if (nearest.length > 3) return `${nearest.slice(0, 3).join('; ')}; and ${nearest.length - 3} more`
  return nearest.join('; ')
}

/** What differs between two inputs, one phrase for each field. `nameOfKey` names the calls that refs point to. */
export function differences(
  now: Canonical | undefined,
  then: Canonical | undefined,
  nameOfKey: (key: string) => string | undefined,
  path = '',
): readonly string[] {
  if (now !== undefined && then !== undefined && canonicalJson(now) === canonicalJson(then)) return []
  const upstream = refKey(now)
  if (upstream !== undefined) return [`${path}: ${nameOfKey(upstream) ?? 'its step'} changed`]
  if (isFields(now) && isFields(then)) {
    const fields = [...new Set([...Object.keys(then), ...Object.keys(now)])]
    return fields.flatMap(field => {
      const inner = field === '$files' ? path : path ? `${path}.${field}` : field
      return differences(now[field], then[field], nameOfKey, inner)
    })
  }
  const short = [then, now].map(show)
  if (isDigest(now) && isDigest(then)) return [`${path} changed (${short[0]} → ${short[1]})`]
  return [`${path} ${short[0]} → ${short[1]}`]
}

function refKey(value: Canonical | undefined): string | undefined {
  return isFields(value) && typeof value.$ref === 'string' ? value.$ref : undefined
}

function isFields(value: Canonical | undefined): value is { readonly [field: string]: Canonical } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const isDigest = (value: Canonical | undefined) => typeof value === 'string' && /^(sha256|sampled):/.test(value)

function show(value: Canonical | undefined): string {
  if (value === undefined) return 'absent'
  if (refKey(value) !== undefined) return "a call's output"
  if (isDigest(value)) {
    const [kind, hex] = String(value).split(':')
    return `${kind} ${hex?.slice(0, 8)}…`
  }
  const text = typeof value === 'string' ? value : canonicalJson(value)
  return text.length > 40 ? `${text.slice(0, 39)}…` : text
}
