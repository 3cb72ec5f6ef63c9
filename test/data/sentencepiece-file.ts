interface Piece {
  readonly text: string
  readonly score?: number
  /** normal 1, unknown 2, control 3, user-defined 4, byte 6. */
  readonly type?: number
}

/** Bytes of a `tokenizer.model` with these pieces that takes text as it is. Source: sentencepiece_model.proto. */
export function sentencePieceFile(
  pieces: readonly Piece[],
  { type, byteFallback = false }: { type: 'unigram' | 'bpe'; byteFallback?: boolean },
): Buffer {
  const message = (number: number, content: Buffer) =>
    Buffer.concat([varint(8 * number + 2), varint(content.length), content])
  const number = (number: number, value: number) => Buffer.concat([varint(8 * number), varint(value)])
  const float = (number: number, value: number) => {
    const bytes = Buffer.alloc(5)
    bytes[0] = 8 * number + 5
    bytes.writeFloatLE(value, 1)
    return bytes
  }
  const list = pieces.map(({ text, score = 0, type = 1 }) =>
    message(1, Buffer.concat([message(1, Buffer.from(text)), float(2, score), number(3, type)])),
  )
  const trainer = [number(3, type === 'unigram' ? 1 : 2), ...(byteFallback ? [varint(8 * 35), varint(1)] : [])]
  const plain = [3, 4, 5].map(flag => number(flag, 0))
  return Buffer.concat([...list, message(2, Buffer.concat(trainer)), message(3, Buffer.concat(plain))])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 128) return Buffer.from([...bytes, rest])
    bytes.push((rest & 127) | 128)
  }
}
