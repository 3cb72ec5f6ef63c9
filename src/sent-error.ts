import { type ErrorCode, FlowError, FormatError } from './errors.ts'

/** An error in a form that survives the way to another thread, which drops classes and fields of errors. */
export type SentError =
  | {
      readonly kind: 'format'
      readonly file: string
      readonly offset?: number | undefined
      readonly expected: string
      readonly found: string
    }
  | { readonly kind: 'flow'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'other'; readonly error: unknown; readonly code?: string | undefined }

/** What to send of an error. */
export function sentError(error: unknown): SentError {
  if (error instanceof FormatError) {
    const { file, offset, expected, found } = error
    return { kind: 'format', file, offset, expected, found }
  }
  if (error instanceof FlowError) return { kind: 'flow', code: error.code, message: error.message }
  return { kind: 'other', error, code: (error as NodeJS.ErrnoException).code }
}

/** The error that was sent: of the same kind, with the same message; of a system's error also its `code`. */
export function receivedError(sent: SentError): unknown {
  switch (sent.kind) {
    case 'format':
      return new FormatError(sent)
    case 'flow':
      return new FlowError(sent.code, sent.message)
    case 'other':
      return sent.code === undefined ? sent.error : Object.assign(sent.error as Error, { code: sent.code })
  }
}
