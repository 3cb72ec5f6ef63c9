declare const outputType: unique symbol

type Scalar = string | number | bigint | boolean | null | undefined

type Lifted<T> = [T] extends [Scalar]
  ? unknown
  : [T] extends [readonly unknown[]]
    ? unknown
    : { readonly [K in keyof T]-?: Ref<Exclude<T[K], undefined>> }

/** Handle to a call's future output. `ref.field` is again a ref; its value is known only when the step has run. */
export type Ref<T> = { readonly [outputType]: T } & Lifted<T>

/** What a step accepts for a value of type `T`: the value, a ref to it, or a structure holding refs at any depth. */
export type In<T> =
  | T
  | Ref<T>
  | (T extends Scalar
      ? never
      : T extends readonly (infer E)[]
        ? readonly In<E>[]
        : { readonly [K in keyof T]: In<T[K]> })

/** What a target becomes once run: each ref replaced by its value. */
export type Out<R> = R extends { readonly [outputType]: infer T }
  ? T
  : R extends object
    ? { -readonly [K in keyof R]: Out<R[K]> }
    : never

/** What can be planned and run: a ref, or a record of targets. */
export type Target = Ref<unknown> | { readonly [name: string]: Target }
