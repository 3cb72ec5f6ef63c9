export type { ConsoleProgressOptions, Listenable } from './report/console-progress.ts'
export { showProgress } from './report/console-progress.ts'
