import { type FileHandle, open, stat } from 'node:fs/promises'
import { FormatError } from '../errors.ts'

/** A file opened for reading at any place, whose every read is checked against its size. */
export interface RandomAccessFile {
  readonly path: string
  readonly fd: number
  /** Bytes in the file when it was opened. */
  readonly size: number
  /**
   * Exactly `length` bytes from byte `offset`, in the first `length` bytes of `into` or, without it, in a new array.
   * @throws FormatError when the file ends before them.
   */
  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>
  close(): Promise<void>
}

/** Opens `path` for reading; throws FormatError when there is no such file. */
export async function openRandomAccessFile(path: string): Promise<RandomAccessFile> {
  const handle = await openHandle(path)
  try {
    const { size } = await handle.stat()
    return {
      path,
      fd: handle.fd,
      size,
      read: (offset, length, into = new Uint8Array(length)) =>
        readExactly(handle, { path, size, offset, length, into }),
      close: () => handle.close(),
    }
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function openHandle(path: string): Promise<FileHandle> {
  try {
    // Opening a pipe would wait for somebody to write.
    const isFile = (await stat(path)).isFile()
    if (!isFile) throw new FormatError({ file: path, expected: 'a file', found: 'a folder or device' })
    return await open(path, 'r')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
    throw new FormatError({ file: path, expected: 'a file', found: 'nothing', cause })
  }
}

async function readExactly(
  handle: FileHandle,
  request: { path: string; size: number; offset: number; length: number; into: Uint8Array },
): Promise<Uint8Array> {
  const { path, size, offset, length, into } = request
  let done = offset + length <= size ? 0 : -1
  while (done >= 0 && done < length) {
    const { bytesRead } = await handle.read(into, done, length - done, offset + done)
    done = bytesRead === 0 ? -1 : done + bytesRead
  }
  if (done < 0) {
    throw new FormatError({
      file: path,
      offset,
      expected: `${length} bytes up to byte ${offset + length}`,
      found: `a file that ends at byte ${size}`,
    })
  }
  return into.length === length ? into : into.subarray(0, length)
}
