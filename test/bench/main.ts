// Runs one benchmark: npm run bench -- NAME
const benchmarks = new Map([
  ['convert', () => import('./convert.ts')],
  ['log', () => import('./log.ts')],
  ['preprocess', () => import('./preprocess.ts')],
  ['search', () => import('./search.ts')],
  ['trainer', () => import('./trainer.ts')],
])

const [name = ''] = process.argv.slice(2)
const load = benchmarks.get(name)
if (load) await (await load()).bench()
else {
  console.error(`There is no benchmark '${name}'. There are: ${[...benchmarks.keys()].join(', ')}.`)
  process.exitCode = 2
}
