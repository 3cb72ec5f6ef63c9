import { FormatError } from '../../errors.ts'

/** One field of a protobuf message, checked to lie within it. */
export interface ProtobufField {
  readonly number: number
  /** Of a varint below 2^53, or a 32-bit float; undefined for bytes. */
  readonly value?: number
  readonly bytes?: Uint8Array
}

/**
 * The fields of a protobuf message, in order; 64-bit fixed numbers come as bytes. Nothing is copied.
 * Source: protobuf.dev, Encoding. `offset` is where the message stands in the file, for messages of errors.
 * @throws FormatError where a field has an unknown wire type or reaches past the end.
 */
export function* protobufFields(
  message: Uint8Array,
  { file, offset }: { file: string; offset: number },
): Generator<ProtobufField> {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  let at = 0
  const refuse = (expected: string, found: string) => new FormatError({ file, offset: offset + at, expected, found })
  const varint = (): number => {
    let value = 0
    for (let i = 0; i < 10; i++) {
      const byte = message[at]
      if (byte === undefined) throw refuse('the rest of a number', 'the end of the message')
      at++
      value += (byte & 0x7f) * 2 ** (7 * i)
      if (byte < 0x80) return value
    }
    throw refuse('a number of at most 10 bytes', 'a longer one')
  }
  const take = (length: number): Uint8Array => {
    if (length > message.length - at) throw refuse(`${length} bytes of a field`, `${message.length - at} bytes`)
    at += length
    return message.subarray(at - length, at)
  }
  while (at < message.length) {
    const tag = varint()
    const [number, wireType] = [Math.floor(tag / 8), tag % 8]
    if (wireType === 0) yield { number, value: varint() }
    else if (wireType === 1) yield { number, bytes: take(8) }
    else if (wireType === 2) yield { number, bytes: take(varint()) }
    else if (wireType === 5) {
      take(4)
      yield { number, value: view.getFloat32(at - 4, true) }
    } else throw refuse('a protobuf field of wire type 0, 1, 2 or 5', `wire type ${wireType}`)
  }
}
