import { defineConfig } from 'tsup'

export default defineConfig({
  entry: {
    index: 'src/index.ts',
    formats: 'src/formats.ts',
    report: 'src/report.ts',
    testing: 'src/testing.ts',
    'programs/job-wrapper': 'src/executors/local/job-wrapper.ts',
    'programs/trainer': 'src/trainer/main.ts',
    'programs/trainer-worker': 'src/trainer/worker.ts',
    'programs/encode-worker': 'src/data/encode-worker.ts',
  },
  format: 'esm',
  target: 'node20',
  platform: 'node',
  splitting: true,
  sourcemap: false,
  clean: false,
  dts: process.env.ASCENDFLOW_NO_DTS
    ? false
    : { entry: { index: 'src/index.ts', formats: 'src/formats.ts', report: 'src/report.ts', testing: 'src/testing.ts' } },
})
