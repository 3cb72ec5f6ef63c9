import { StoreError } from '../errors.ts'

const causes: Readonly<Record<string, { readonly what: string; readonly hint: string }>> = {
  ENOSPC: { what: 'no space is left on the device', hint: 'Make room and run the same graph again: it goes on where it was.' },
  EDQUOT: { what: 'the disk quota is used up', hint: 'Make room and run the same graph again: it goes on where it was.' },
  EACCES: { what: 'permission is denied', hint: 'Choose another store, or make this one writable for you.' },
  EPERM: { what: 'the operation is not permitted', hint: 'Choose another store, or make this one writable for you.' },
  EROFS: { what: 'the file system is read-only', hint: 'Choose another store.' },
  ENOTDIR: { what: 'a file is in the way of a folder', hint: 'Choose another store.' },
  EEXIST: { what: 'a file is in the way of a folder', hint: 'Choose another store.' },
}

/** Turns a file-system failure into a StoreError that names the path; throws it, or anything else unchanged. */
export function asStoreError(path: string): (error: unknown) => never {
  return error => {
    const cause = causes[(error as NodeJS.ErrnoException)?.code ?? '']
    if (!cause) throw error
    throw new StoreError(`The store cannot be used: ${cause.what} (${path}).`, { hint: cause.hint, cause: error })
  }
}
