import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const src = (name: string) => fileURLToPath(new URL(`./src/${name}.ts`, import.meta.url))

export default defineConfig({
  resolve: {
    alias: {
      'ascendflow/formats': src('formats'),
      'ascendflow/modelarts': src('modelarts'),
      'ascendflow/report': src('report'),
      'ascendflow/testing': src('testing'),
      ascendflow: src('index'),
    },
  },
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/interop/**'],
    globalSetup: 'test/build-programs.ts',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: 'forks',
    // By default one processor is left idle.
    maxWorkers: '100%',
  },
})
