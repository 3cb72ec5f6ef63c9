import { defineConfig } from 'tsup'

const doors = {
  index: 'src/index.ts',
  formats: 'src/formats.ts',
  modelarts: 'src/modelarts.ts',
  report: 'src/report.ts',
  testing: 'src/testing.ts',
}

const programs = {
  'programs/copy-worker': 'src/checkpoint/copy-worker.ts',
  'programs/encode-worker': 'src/data/encode-worker.ts',
  'programs/job-wrapper': 'src/executors/local/job-wrapper.ts',
  'programs/toolchain-double': 'src/toolchain-double/main.ts',
  'programs/trainer': 'src/trainer/main.ts',
  'programs/trainer-worker': 'src/trainer/worker.ts',
}

const quick = process.env.ASCENDFLOW_NO_DTS !== undefined

export default defineConfig({
  entry: { ...doors, ...programs },
  format: 'esm',
  target: 'node20',
  platform: 'node',
  splitting: true,
  // Optional, native, and found where the package is installed.
  external: ['@node-rs/crc32'],
  // A quick build (no declarations) happens while jobs may run from dist: it takes nothing away.
  clean: !quick,
  dts: quick ? false : { entry: doors },
})
