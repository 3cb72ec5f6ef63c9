import { StringDecoder } from 'node:string_decoder'

/** Cuts a stream of bytes into lines, without their ends: `push` gives those completed, `rest` an unfinished one. */
export function createLineCutter() {
  const decoder = new StringDecoder('utf8')
  let partial = ''
  return {
    push: (bytes: Buffer): readonly string[] => {
      const lines = (partial + decoder.write(bytes)).split('\n')
      partial = lines.pop() ?? ''
      return lines.map(line => (line.endsWith('\r') ? line.slice(0, -1) : line))
    },
    rest: (): string => partial,
  }
}
