import { z } from 'zod'

/** A record naming bytes on disk: a file, a folder, a glob, or the common prefix of several files. */
export interface Artifact {
  readonly kind: string
  readonly path: string
}

/** True for anything with a `kind` and a `path`: such values count in keys by their files, not by their path. */
export function isArtifact(value: unknown): value is Artifact {
  if (typeof value !== 'object' || value === null) return false
  const { kind, path } = value as Partial<Artifact>
  return typeof kind === 'string' && typeof path === 'string'
}

/**
 * A schema for artifacts of one kind, to be exported under the same name as their interface so that error
 * messages say that name: `const HfModel: z.ZodType<HfModel, HfModel> = defineArtifact('hf-model', {})`.
 */
export function defineArtifact<A extends Artifact>(
  kind: A['kind'],
  facts: { readonly [K in Exclude<keyof A, 'kind' | 'path'>]-?: z.ZodType<A[K]> },
): z.ZodType<A, A> {
  const what = `expected a ${kind} artifact`
  const schema = z.object(
    {
      kind: z.literal(kind, { error: issue => `${what}, found ${kindOf(issue.input)}` }),
      path: z.string().min(1),
      ...facts,
    },
    { error: issue => (issue.code === 'invalid_type' ? `${what}, found ${kindOf(issue.input)}` : undefined) },
  )
  // zod's inferred type of a spread shape is wider than A; the shape above is A field by field.
  return schema as unknown as z.ZodType<A, A>
}

function kindOf(value: unknown): string {
  if (value === undefined) return 'nothing'
  return typeof value === 'string' ? `'${value}'` : value === null ? 'null' : `a value of type ${typeof value}`
}
