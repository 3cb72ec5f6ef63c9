/** A value as Python's `json.loads` sees it: objects keep the order of their keys, numbers what sets 1 and 1.0 apart. */
export type PythonValue =
  | string
  | boolean
  | null
  | { readonly number: string }
  | readonly PythonValue[]
  | ReadonlyMap<string, PythonValue>

/** Deeper nesting is refused; Python itself gives up at about a thousand. */
const maxDepth = 500

/** Reads JSON as Python's `json.loads` does; undefined when it is none. */
export function readPythonJson(text: string): PythonValue | undefined {
  let at = 0
  const skip = () => {
    while (' \t\n\r'.includes(text[at] ?? 'end')) at++
  }
  const take = (expected: string) => {
    skip()
    const found = text.startsWith(expected, at)
    if (found) at += expected.length
    return found
  }
  const fail = (): never => {
    throw new SyntaxError(`no JSON at ${at}`)
  }
  const readString = (): string => {
    if (!take('"')) fail()
    const start = at - 1
    while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1
    at++
    return JSON.parse(text.slice(start, at)) as string
  }
  const readItems = (end: string, readItem: () => void) => {
    if (take(end)) return
    do readItem()
    while (take(','))
    if (!take(end)) fail()
  }
  const readValue = (depth: number): PythonValue => {
    if (depth > maxDepth) fail()
    skip()
    if (text[at] === '"') return readString()
    if (take('{')) {
      const entries = new Map<string, PythonValue>()
      readItems('}', () => {
        const key = readString()
        if (!take(':')) fail()
        entries.set(key, readValue(depth + 1))
      })
      return entries
    }
    if (take('[')) {
      const items: PythonValue[] = []
      readItems(']', () => items.push(readValue(depth + 1)))
      return items
    }
    for (const [word, value] of words) if (take(word)) return value
    numberPattern.lastIndex = at
    const [number, fraction] = numberPattern.exec(text) ?? fail()
    at += number.length
    return { number: fraction === '' ? (number === '-0' ? '0' : number) : floatText(Number(number)) }
  }
  try {
    const value = readValue(0)
    skip()
    return at === text.length ? value : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

const words: readonly (readonly [string, PythonValue])[] = [
  ['null', null],
  ['true', true],
  ['false', false],
  ...['NaN', 'Infinity', '-Infinity'].map(number => [number, { number }] as const),
]

const numberPattern = /-?(?:0|[1-9]\d*)((?:\.\d+)?(?:[eE][+-]?\d+)?)/y

/** A JSON value that is read already, as Python would have it. */
export function toPythonValue(value: unknown): PythonValue {
  if (typeof value === 'number') return { number: Number.isInteger(value) ? `${BigInt(value)}` : floatText(value) }
  if (typeof value === 'bigint') return { number: `${value}` }
  if (Array.isArray(value)) return value.map(toPythonValue)
  if (typeof value === 'object' && value !== null) {
    return new Map(Object.entries(value).map(([key, item]) => [key, toPythonValue(item)]))
  }
  return typeof value === 'string' || typeof value === 'boolean' ? value : null
}

/** `repr` of a float: the shortest digits, in scientific notation below 1e-4 and from 1e16 on. */
function floatText(value: number): string {
  if (!Number.isFinite(value)) return `${value}`
  if (Object.is(value, -0)) return '-0.0'
  const [digits = '', exponent = ''] = value.toExponential().split('e')
  const size = Number(exponent)
  if (value === 0 || (size >= -4 && size < 16)) return Number.isInteger(value) ? `${value}.0` : `${value}`
  return `${digits}e${size < 0 ? '-' : '+'}${`${Math.abs(size)}`.padStart(2, '0')}`
}

/** `json.dumps(value, ensure_ascii=False, indent=indent)`. */
export function writePythonJson(value: PythonValue, indent?: number, depth = 0): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (value === null || typeof value === 'boolean') return `${value}`
  if ('number' in value) return value.number
  const isMap = value instanceof Map
  const items = isMap
    ? [...value].map(([key, item]) => `${JSON.stringify(key)}: ${writePythonJson(item, indent, depth + 1)}`)
    : (value as readonly PythonValue[]).map(item => writePythonJson(item, indent, depth + 1))
  const [open, close] = isMap ? ['{', '}'] : ['[', ']']
  if (items.length === 0 || indent === undefined) return `${open}${items.join(', ')}${close}`
  const margin = `\n${' '.repeat(indent * depth)}`
  const inner = margin + ' '.repeat(indent)
  return `${open}${inner}${items.join(`,${inner}`)}${margin}${close}`
}

/** `str(value)`. */
export function pythonText(value: PythonValue): string {
  return typeof value === 'string' ? value : represent(value)
}

/** `repr(value)`. */
function represent(value: PythonValue): string {
  if (value === null) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (typeof value === 'string') {
    const quote = value.includes("'") && !value.includes('"') ? '"' : "'"
    const inner = JSON.stringify(value).slice(1, -1).replaceAll('\\"', '"')
    return `${quote}${quote === "'" ? inner.replaceAll("'", "\\'") : inner}${quote}`
  }
  if ('number' in value) return value.number
  if (value instanceof Map) {
    return `{${[...value].map(([key, item]) => `${represent(key)}: ${represent(item)}`).join(', ')}}`
  }
  return `[${(value as readonly PythonValue[]).map(represent).join(', ')}]`
}
