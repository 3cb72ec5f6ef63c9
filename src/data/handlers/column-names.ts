import { InputError } from '../../errors.ts'
import type { Handler, MapKeys, Row } from './handler.ts'

/**
 * The names that a handler's columns have in the corpus. A name in `mapKeys` replaces the handler's own; an empty one
 * says that there is no such column, as an absent optional one does.
 * @throws InputError for a key that the handler does not know, with those it does.
 */
export function nameColumns<Key extends string>(
  mapKeys: MapKeys | undefined,
  columns: Readonly<Record<Key, string>>,
): Readonly<Record<Key, string>> {
  const named = new Map<string, string>(Object.entries(columns))
  for (const [key, column] of Object.entries(mapKeys ?? {})) {
    if (named.has(key) && typeof column === 'string') named.set(key, column)
    else {
      throw new InputError(`mapKeys: there is no column ${JSON.stringify(key)} to name.`, {
        field: 'mapKeys',
        hint: `This handler knows ${Object.keys(columns).join(', ')}.`,
      })
    }
  }
  return Object.fromEntries(named) as Record<Key, string>
}

/** The handler, reading columns of other names. @throws InputError for a column that it does not read. */
export function renameColumns(handler: Handler, mapKeys: MapKeys): Handler {
  const own = handler.columns([]) ?? []
  const names = nameColumns(mapKeys, Object.fromEntries(own.map(column => [column, column])))
  const nameOf = (column: string) => names[column] ?? column
  const renamed = (row: Row): Row => ({
    text: column => row.text(nameOf(column)),
    value: column => row.value(nameOf(column)),
    error: (column, expected, found) => row.error(nameOf(column), expected, found),
  })
  return {
    ...handler,
    columns: jsonKeys => handler.columns(jsonKeys)?.map(nameOf),
    encode: (row, context) => handler.encode(renamed(row), context),
  }
}
