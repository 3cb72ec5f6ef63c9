import { StoreError } from '../errors.ts'

const causes: Readonly<Record<string, { readonly what: string; readonly hint: string }>> = {
  ENOSPC: {
    what: 'no space is left on the device',
    hint: 'Make room and run the same graph again: it goes on where it was.',
  },
  EDQUOT: {
    what: 'the disk quota is used up',
    hint: 'Make room and run the same graph again: it goes on where it was.',
  },
  EACCES: { what: 'permission is denied', hint: 'Choose another store, or make this one writable for you.' },
  EPERM: { what: 'the operation is not permitted', hint: 'Choose another store, or make this one writable for you.' },
  EROFS: { what: 'the file system is read-only', hint: 'Choose another store.' },
  ENOTDIR: { what: 'a file is in the way of a folder', hint: 'Choose another store.' },
  EEXIST: { what: 'a file is in the way of a folder', hint: 'Choose another store.' },
}

/** A file-system failure in words, with what to try; undefined for anything else. */
export function storageProblem(
  error: unknown,
  path: string,
): { readonly what: string; readonly hint: string } | undefined {
  const cause = causes[(error as NodeJS.ErrnoException | undefined)?.code ?? '']
  return cause && { what: `${cause.what} (${(error as NodeJS.ErrnoException).path ?? path}).`, hint: cause.hint }
}

/** Turns a file-system failure into a StoreError that names the path; throws it, or anything else unchanged. */
export function asStoreError(path: string): (error: unknown) => never {
  return error => {
    const problem = storageProblem(error, path)
    if (!problem) throw error
    throw new StoreError(`The store cannot be used: ${problem.what}`, { hint: problem.hint, cause: error })
  }
}
