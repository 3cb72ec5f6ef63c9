// Compiles the kernels' sources to the committed *.generated.ts beside them; the compiler's output is reproducible to the
// byte. With --check it writes nothing and fails when a committed file is not what the sources give.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import asc from 'assemblyscript/asc'

const check = process.argv.includes('--check')
const builds = [
  {
    room: 'trainer',
    name: 'simd',
    features: 'simd,threads,bulk-memory',
    doc: 'never fuses multiply and add: the same bits on every processor',
  },
  {
    room: 'trainer',
    name: 'fma',
    features: 'simd,threads,bulk-memory,relaxed-simd',
    doc: 'fuses multiply and add where the processor can',
  },
  { room: 'data', name: 'encode', features: 'simd,threads,bulk-memory', doc: 'encodes text' },
]

for (const { room, name, features, doc } of builds) {
  const folder = fileURLToPath(new URL(`../src/${room}/kernels/`, import.meta.url))
  const file = `${folder}${name}.generated.ts`
  const text = generated(await compile(folder, features), doc)
  if (!check) {
    writeFileSync(file, text)
    console.log(`${name}.generated.ts: ${text.length} characters`)
  } else if (readFileSync(file, 'utf8') !== text) {
    console.error(`${file} is not what the kernels' sources give. Run: npm run kernels`)
    process.exitCode = 1
  }
}

async function compile(folder, features) {
  let binary
  const { error, stderr } = await asc.main(
    [
      `${folder}assembly/index.ts`,
      ...[
        '--outFile',
        'kernels.wasm',
        '--runtime',
        'stub',
        '--noAssert',
        '-O3',
        '--enable',
        features,
        '--use',
        'abort=',
      ],
      ...['--importMemory', '--sharedMemory', '--initialMemory', '1', '--maximumMemory', '65536'],
    ],
    {
      writeFile: (_, contents) => {
        binary = contents
      },
      reportDiagnostic: message => console.error(String(message)),
    },
  )
  if (error) throw new Error(`${error.message}\n${stderr.toString()}`)
  return Buffer.from(binary).toString('base64')
}

function generated(base64, doc) {
  return `// Made by scripts/build-kernels.mjs from assembly/; do not edit.\n/** The kernels as WebAssembly in base64; this build ${doc}. */\nexport const binary =\n  '${base64}'\n`
}
