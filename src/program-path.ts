import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { UnsupportedError } from './errors.ts'

/**
 * Path of one of this package's own programs (`dist/programs/NAME.js`), which run as processes or workers.
 * @throws UnsupportedError when the package's folder is not there, as in a bundle made of one file.
 */
export function programPath(name: string): string {
  try {
    return join(
      dirname(createRequire(import.meta.url).resolve('ascendflow/package.json')),
      'dist',
      'programs',
      `${name}.js`,
    )
  } catch (cause) {
    throw new UnsupportedError(`The program ${name} of ascendflow cannot be found from ${import.meta.url}.`, {
      hint: 'Install ascendflow as a package and mark it as external in your bundler: it starts programs of its own.',
      cause,
    })
  }
}
