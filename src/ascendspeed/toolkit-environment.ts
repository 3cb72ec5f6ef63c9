import type { Launch } from '../flow/launch.ts'

/** Where CANN's installer puts the script that every command of the toolchain needs to have read. */
export const setEnvPath = '/usr/local/Ascend/ascend-toolkit/set_env.sh'

const program = 'if [ -f "$0" ]; then . "$0"; fi; exec "$@"'

/**
 * The same launch with CANN's environment around it, where that is installed: jobs that are started without a login
 * would not find its libraries otherwise.
 */
export function withToolkitEnvironment(launch: Launch): Launch {
  return { ...launch, argv: ['bash', '-c', program, setEnvPath, ...launch.argv] }
}
