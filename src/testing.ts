export type { TestRunner } from './executors/describe-executor.ts'
export { describeExecutor } from './executors/describe-executor.ts'
