import { textOf } from './obs/xml-text.ts'

/** What a refusal says, whatever the service's dialect. */
export interface ErrorAnswer {
  readonly serviceCode?: string | undefined
  readonly message: string
  /** What the service itself advises, or what its gateway's code is known to mean. */
  readonly solution?: string | undefined
  readonly requestId?: string | undefined
}

const longest = 500

const checkKeys = "Check the access key, its secret and this machine's clock, which may be 15 minutes off at most."

const renewKeys = 'Temporary keys end: pass a function as credentials that gives those of the moment.'

/** Of the gateway before all services, and of OBS. */
const keysAdvice: Readonly<Record<string, string>> = {
  'APIGW.0301': `${checkKeys} ${renewKeys}`,
  'APIG.0301': `${checkKeys} ${renewKeys}`,
  SignatureDoesNotMatch: checkKeys,
  RequestTimeTooSkewed: checkKeys,
  InvalidAccessKeyId: `${checkKeys} ${renewKeys}`,
  ExpiredToken: renewKeys,
  InvalidSecurityToken: renewKeys,
}

/**
 * Reads the body of a refusal: ModelArts' and the gateway's `{error_code, error_msg, error_solution}`, SFS Turbo's
 * `{errCode, errMsg}`, IAM's `{error: {code, message}}`, `{code, message}`, OBS's XML, and what proxies answer in HTML.
 */
export function readErrorAnswer(text: string, headers: Headers): ErrorAnswer {
  const body = asRecord(parse(text)) ?? ofXml(text)
  const inner = asRecord(body?.error) ?? body
  const first = (...names: readonly string[]) =>
    names
      .map(name => inner?.[name] ?? body?.[name])
      .find(value => typeof value === 'string' || typeof value === 'number')
  const say = (value: string | number | undefined) => (value === undefined ? undefined : String(value))
  const code = say(first('error_code', 'errCode', 'code'))
  const message = say(first('error_msg', 'errMsg', 'error_message', 'message', 'error_description'))
  return {
    serviceCode: code,
    message: shorten(message ?? plainText(text)),
    solution: say(first('error_solution', 'solution')) ?? keysAdvice[code ?? ''],
    requestId:
      headers.get('x-request-id') ??
      headers.get('x-obs-request-id') ??
      say(first('request_id', 'requestId')) ??
      undefined,
  }
}

function ofXml(text: string): ReturnType<typeof asRecord> {
  if (!/<Error[\s>]/.test(text)) return undefined
  return { code: textOf(text, 'Code'), message: textOf(text, 'Message'), requestId: textOf(text, 'RequestId') }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function asRecord(value: unknown): Readonly<Record<string, string | number | undefined>> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, string | number | undefined>>)
    : undefined
}

/** The words of a page; nothing of its markup. */
function plainText(text: string): string {
  return text
    .replaceAll(/<(style|script)\b[\s\S]*?<\/\1>/gi, ' ')
    .replaceAll(/<[^>]*>/g, ' ')
    .replaceAll(/\s+/g, ' ')
    .trim()
}

function shorten(text: string): string {
  return text.length > longest ? `${text.slice(0, longest)}…` : text
}
