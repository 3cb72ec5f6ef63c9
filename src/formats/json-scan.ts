export interface JsonLimits {
  /** Objects and lists inside each other. */
  readonly maxDepth: number
  /** Items of one list. */
  readonly maxItems: number
  /** Bytes that an object, a list or a key takes at least, on average: less is a bomb. */
  readonly minBytes: number
}

/**
 * Looks at JSON before it is parsed, so that parsing cannot take many times the memory of the text: gives the number of
 * keys in the outermost object, or says what is too much. Whether it is JSON at all is for the parser to say.
 */
export function scanJson(
  bytes: Uint8Array,
  limits: JsonLimits,
): { readonly keys: number } | { readonly tooMuch: string } {
  const { maxDepth, maxItems, minBytes } = limits
  const most = 64 + bytes.length / minBytes
  const items: number[] = []
  let [keys, containers, pairs] = [0, 0, 0]
  for (let at = 0; at < bytes.length; at++) {
    switch (bytes[at]) {
      case 0x22: // "
        for (at++; at < bytes.length && bytes[at] !== 0x22; at++) if (bytes[at] === 0x5c) at++
        break
      case 0x7b: // {
      case 0x5b: // [
        containers++
        items.push(0)
        if (items.length > maxDepth) return { tooMuch: `${items.length} levels` }
        break
      case 0x7d: // }
      case 0x5d: // ]
        items.pop()
        break
      case 0x3a: // :
        pairs++
        if (items.length === 1) keys++
        break
      case 0x2c: // ,
        if (items.length === maxDepth && ++items[items.length - 1]! >= maxItems)
          return { tooMuch: `over ${maxItems} items` }
    }
    if (containers > most || pairs > most) return { tooMuch: `${Math.max(containers, pairs)} parts by byte ${at}` }
  }
  return { keys }
}
