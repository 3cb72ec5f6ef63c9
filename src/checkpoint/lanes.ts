/** Does `work` for every item, `count` at a time, and ends when all have ended: with the first error, if any. */
export async function inLanes<T>(
  items: Iterable<T>,
  count: number,
  work: (item: T, lane: number) => Promise<void>,
): Promise<void> {
  const rest = items[Symbol.iterator]()
  let failure: { readonly error: unknown } | undefined
  const run = async (_: unknown, lane: number): Promise<void> => {
    for (let next = rest.next(); !next.done && !failure; next = rest.next())
      await work(next.value, lane).catch(error => {
        failure ??= { error }
      })
  }
  await Promise.all(Array.from({ length: count }, run))
  if (failure) throw failure.error
}
