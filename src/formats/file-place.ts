import { read, readSync, write, writeSync } from 'node:fs'
import { FormatError } from '../errors.ts'

/** Where bytes lie, or will lie, in an open file: a plain record, which another thread can use too. */
export interface FilePlace {
  readonly path: string
  /** Descriptor of the file, which whoever opened it closes. */
  readonly fd: number
  readonly offset: number
}

/** Moves the bytes between a buffer and byte `start` of a place, all of them. */
export type PlaceAccess = (place: FilePlace, start: number, bytes: Uint8Array) => Promise<void>

/** Fills `bytes` from the file. @throws FormatError when the file ends before them. */
export const readPlace: PlaceAccess = (place, start, bytes) => moveAll(read, { place, start, bytes })

/** Writes `bytes` to the file. */
export const writePlace: PlaceAccess = (place, start, bytes) => moveAll(write, { place, start, bytes })

/** As `readPlace`, on the calling thread. */
export function readPlaceSync(place: FilePlace, start: number, bytes: Uint8Array): void {
  moveAllSync(readSync, place, start, bytes)
}

/** As `writePlace`, on the calling thread. */
export function writePlaceSync(place: FilePlace, start: number, bytes: Uint8Array): void {
  moveAllSync(writeSync, place, start, bytes)
}

type Transfer<T extends unknown[], R> = (
  ...args: [fd: number, bytes: Uint8Array, offset: number, length: number, position: number, ...T]
) => R
type Move = Transfer<[done: (error: unknown, moved: number) => void], void>
type MoveSync = Transfer<[], number>

interface Moving {
  readonly place: FilePlace
  readonly start: number
  readonly bytes: Uint8Array
}

// The kernel moves at most 2 GiB at a time, and may move less than it is asked for.
async function moveAll(move: Move, { place, start, bytes }: Moving): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const moved = await new Promise<number>((resolve, reject) => {
      const position = place.offset + start + done
      const settle = (error: unknown, n: number): void => (error ? reject(error) : resolve(n))
      move(place.fd, bytes, done, bytes.length - done, position, settle)
    })
    if (moved === 0) throw endsEarly({ place, start, bytes }, done)
    done += moved
  }
}

function moveAllSync(move: MoveSync, place: FilePlace, start: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const moved = move(place.fd, bytes, done, bytes.length - done, place.offset + start + done)
    if (moved === 0) throw endsEarly({ place, start, bytes }, done)
    done += moved
  }
}

function endsEarly({ place: { path, offset: first }, start, bytes }: Moving, done: number): FormatError {
  const offset = first + start
  const expected = `${bytes.length} bytes up to byte ${offset + bytes.length}`
  return new FormatError({ file: path, offset, expected, found: `a file that ends at byte ${offset + done}` })
}
