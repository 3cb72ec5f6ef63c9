import { isAbsolute, relative, resolve } from 'node:path'

/** The innermost of the mounted folders that holds `path`, and where in it; undefined when none does. */
export function innermostMount<M>(
  path: string,
  mounts: readonly M[],
  folderOf: (mount: M) => string,
): { readonly mount: M; readonly within: string } | undefined {
  return mounts
    .map(mount => ({ mount, within: relative(resolve(folderOf(mount)), resolve(path)) }))
    .filter(({ within }) => within !== '..' && !within.startsWith('../') && !isAbsolute(within))
    .sort((a, b) => a.within.length - b.within.length)[0]
}
