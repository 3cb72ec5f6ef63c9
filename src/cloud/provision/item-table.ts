interface Row {
  readonly kind: string
  readonly name: string
  readonly state: string
  readonly detail: string
}

/** A name may be longer, an image's for example; what is said of the others stays near them. */
const longestPad = 40

/** One line for each thing: its state, what it is, its name, and what there is to say. */
export function itemTable(rows: readonly Row[]): string {
  const widest = (of: (row: Row) => string) => Math.max(0, ...rows.map(row => of(row).length))
  const [states, kinds] = [widest(({ state }) => state), widest(({ kind }) => kind)]
  const names = Math.min(
    longestPad,
    widest(({ name }) => name),
  )
  return rows
    .map(({ state, kind, name, detail }) =>
      `${state.padEnd(states)}  ${kind.padEnd(kinds)}  ${name.padEnd(names)}  ${detail}`.trimEnd(),
    )
    .join('\n')
}

/** A price with two places, in whatever currency it was given. */
export function priceText(price: number): string {
  return price.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 })
}
