import type { z } from 'zod'
import { InputError, PlanError } from '../errors.ts'
import { makeRef, refsIn } from './backing.ts'
import type { Awaitable, CallOptions, JobBody, StepContext, StepDefinition, StepSpec } from './call.ts'
import { callSite } from './call-site.ts'
import type { In, Ref } from './ref.ts'

/** A step: calling it does nothing but return a ref to its future output. */
export interface Step<I, T> {
  (input: In<I>, options?: CallOptions): Ref<T>
  readonly stepName: string
}

/**
 * Describes a step; `.run(fn)` makes it a function in this process, `.job(…)` a job on an executor,
 * `.runOrJobWith(field, fn, …)` one or the other.
 *
 * The schemas come first on purpose: with them fixed, literals in the body's result stay literal and a wrong
 * output does not compile.
 * @throws PlanError for a name that cannot be a folder's name or a version that is not a positive integer.
 */
export function defineStep<I extends z.ZodObject, O extends z.ZodType>(spec: StepSpec<I, O>) {
  checkName(spec.name)
  if (!Number.isSafeInteger(spec.version) || spec.version < 1)
    throw new PlanError(`${spec.name}: version ${spec.version} is not a positive integer.`)
  type Made = Step<z.input<I>, z.output<O>>
  // The engine calls bodies with what their own schemas parsed, so forgetting the types here loses nothing.
  const made = (bodies: object): Made => callable({ spec, ...bodies } as unknown as StepDefinition) as unknown as Made
  type Run = (input: z.output<I>, context: StepContext) => Awaitable<z.input<O>>
  return {
    run: (run: Run): Made => made({ body: { kind: 'run', run } }),
    job: (job: JobBody<I, O>): Made => made({ body: { kind: 'job', ...job } }),
    /**
     * A function in this process; for calls whose input has the optional field `field`, a job instead. The field takes
     * no ref: what a call is has to be known before anything runs.
     */
    runOrJobWith: <F extends keyof z.output<I> & string>(
      field: F,
      run: Run,
      job: JobBody<I, O, z.output<I> & { readonly [K in F]-?: NonNullable<z.output<I>[K]> }>,
    ): Made => made({ body: { kind: 'run', run }, bodyWith: { field, body: { kind: 'job', ...job } } }),
  }
}

function callable(step: StepDefinition) {
  const call = (input: Readonly<Record<string, unknown>>, options: CallOptions = {}): Ref<unknown> => {
    const at = callSite(call)
    const name = options.name ?? step.spec.name
    checkName(name)
    checkFields(step, name, input, at)
    return makeRef({ call: { step, name, input, options, ...(at ? { at } : {}) }, path: [] })
  }
  return Object.assign(call, { stepName: step.spec.name })
}

function checkName(name: string): void {
  if (!/^[A-Za-z0-9][\w.-]{0,63}$/.test(name))
    throw new PlanError(
      `'${name}' cannot name a step: use up to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit.`,
    )
}

/** Parses every field that holds no ref, so that a mistake is named where it was made. */
function checkFields(step: StepDefinition, name: string, input: Readonly<Record<string, unknown>>, at?: string): void {
  const shape = step.spec.input.shape as Readonly<Record<string, z.ZodType>>
  for (const field of Object.keys(input)) {
    if (!(field in shape))
      throw new InputError(`${name}: there is no input '${field}'; it takes ${Object.keys(shape).join(', ')}.`, {
        step: name,
        field,
        at,
      })
  }
  for (const [field, schema] of Object.entries(shape)) {
    if (refsIn(input[field]).length > 0) {
      if (field !== step.bodyWith?.field) continue
      throw new InputError(
        `${name}.${field}: it decides how the call is carried out and cannot come from another call.`,
        {
          ...{ step: name, field, at },
        },
      )
    }
    const parsed = schema.safeParse(input[field])
    if (!parsed.success) throw inputError(name, parsed.error.issues, { field, at })
  }
}

/** The first issue of a refused input in words: step, field, limit, call site. */
export function inputError(
  step: string,
  issues: readonly z.core.$ZodIssue[],
  where: { readonly field?: string | undefined; readonly at?: string | undefined },
): InputError {
  const issue = issues[0]
  const path = [...(where.field === undefined ? [] : [where.field]), ...(issue?.path ?? [])].map(String).join('.')
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : ''
  return new InputError(`${step}.${path}: ${issue?.message ?? 'not accepted'}${more}.`, {
    step,
    field: path,
    at: where.at,
    cause: issues,
  })
}
