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
export const readPlace: PlaceAccess = ({ path, fd, offset }, start, bytes) =>
  moveAll(bytes.length, offset + start, {
    move: (done, position) =>
      new Promise((resolve, reject) => {
        read(fd, bytes, done, bytes.length - done, position, (error, n) => (error ? reject(error) : resolve(n)))
      }),
    path,
  })

/** Writes `bytes` to the file. */
export const writePlace: PlaceAccess = ({ path, fd, offset }, start, bytes) =>
  moveAll(bytes.length, offset + start, {
    move: (done, position) =>
      new Promise((resolve, reject) => {
        write(fd, bytes, done, bytes.length - done, position, (error, n) => (error ? reject(error) : resolve(n)))
      }),
    path,
  })

/** As `readPlace`, on the calling thread. */
export const readPlaceSync: PlaceAccess = ({ path, fd, offset }, start, bytes) =>
  moveAll(bytes.length, offset + start, {
    move: (done, position) => readSync(fd, bytes, done, bytes.length - done, position),
    path,
  })

/** As `writePlace`, on the calling thread. */
export const writePlaceSync: PlaceAccess = ({ path, fd, offset }, start, bytes) =>
  moveAll(bytes.length, offset + start, {
    move: (done, position) => writeSync(fd, bytes, done, bytes.length - done, position),
    path,
  })

// The kernel moves at most 2 GiB at a time, and may move less than it is asked for.
async function moveAll(
  length: number,
  offset: number,
  { move, path }: { move: (done: number, position: number) => number | Promise<number>; path: string },
): Promise<void> {
  for (let done = 0; done < length; ) {
    const moved = await move(done, offset + done)
    done += moved
    if (moved > 0) continue
    const expected = `${length} bytes up to byte ${offset + length}`
    throw new FormatError({ file: path, offset, expected, found: `a file that ends at byte ${offset + done}` })
  }
}
