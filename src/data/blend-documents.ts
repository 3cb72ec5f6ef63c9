/** Documents of one corpus, and how much it counts. */
export interface BlendedCorpus {
  /** By number, in their order; at least one. */
  readonly documents: ArrayLike<number>
  /** Share of the tokens, in proportion to those of the others. */
  readonly weight: number
}

/**
 * Documents of several corpora in an order in which, at every point, each corpus has its share of the tokens as nearly
 * as whole documents allow. Ends when every document has come at least once; corpora with a greater weight than size
 * start again until then.
 */
export function* blendDocuments(
  corpora: readonly BlendedCorpus[],
  tokensOf: (document: number) => number,
): Generator<{ readonly corpus: number; readonly document: number }> {
  const given = corpora.map(() => ({ tokens: 0, next: 0, passes: 0 }))
  while (given.some(({ passes }) => passes === 0)) {
    let corpus = 0
    for (let i = 1; i < corpora.length; i++) if (due(i) < due(corpus)) corpus = i
    const state = given[corpus]
    const { documents } = corpora[corpus] as BlendedCorpus
    const document = documents[state?.next ?? 0]
    if (!state || document === undefined) return
    state.tokens += tokensOf(document)
    state.next = (state.next + 1) % documents.length
    if (state.next === 0) state.passes++
    yield { corpus, document }
  }

  /** The corpus with the smallest is the furthest behind its share. */
  function due(i: number): number {
    return (given[i]?.tokens ?? 0) / (corpora[i]?.weight ?? 1)
  }
}
