// Checks what `npm pack` would ship: the doors, the programs, the papers, and nothing else.
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const [pack] = JSON.parse(
  execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root, encoding: 'utf8' }),
)
const files = pack.files.map(file => file.path)

const needed = [
  ...['package.json', 'README.md', 'README.zh-CN.md', 'LICENSE', 'CHANGELOG.md'],
  ...['index', 'formats', 'modelarts', 'report', 'testing'].flatMap(door => [`dist/${door}.js`, `dist/${door}.d.ts`]),
  ...['encode-worker', 'job-wrapper', 'toolchain-double', 'trainer', 'trainer-worker'].map(
    program => `dist/programs/${program}.js`,
  ),
]
const missing = needed.filter(file => !files.includes(file))
const strange = files.filter(file => !needed.includes(file) && !/^dist\/(programs\/)?[\w-]+\.(js|d\.ts)$/.test(file))
const limit = 2 * 2 ** 20

if (missing.length > 0) console.error(`not shipped: ${missing.join(', ')}`)
if (strange.length > 0) console.error(`shipped for no reason: ${strange.join(', ')}`)
if (pack.unpackedSize > limit) console.error(`unpacked size ${pack.unpackedSize} bytes is more than ${limit}`)
if (missing.length + strange.length > 0 || pack.unpackedSize > limit) process.exit(1)
console.log(
  `${files.length} files, ${(pack.unpackedSize / 1024).toFixed(0)} KiB unpacked, ${(pack.size / 1024).toFixed(0)} KiB packed`,
)
