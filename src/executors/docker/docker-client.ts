import pRetry from 'p-retry'
import { JobError, UnsupportedError } from '../../errors.ts'

/** State of a container, as `docker inspect` has it. */
export interface ContainerState {
  readonly Status: 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead'
  readonly ExitCode: number
  readonly OOMKilled: boolean
  /** Why it could not be started; empty otherwise. */
  readonly Error: string
}

interface Result {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

export type DockerClient = ReturnType<typeof dockerClient>

/** The docker command line client: argument arrays only. */
export function dockerClient(program: string) {
  const run = async (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Result> => {
    const { execa } = await import('execa')
    const result = await execa(program, args, { env, reject: false, stdin: 'ignore' })
    if (result.code === 'ENOENT')
      throw new UnsupportedError(`docker: there is no program ${program}.`, {
        hint: "Install the docker client, or name its path as 'client'.",
        cause: result,
      })
    return { exitCode: result.exitCode ?? 1, stdout: result.stdout, stderr: result.stderr }
  }
  return {
    run,

    /** Runs a command that must succeed. @throws JobError, which may be retried when only the daemon was away. */
    async must(job: string, args: readonly string[], env?: Readonly<Record<string, string>>): Promise<void> {
      const result = await run(args, env)
      if (result.exitCode !== 0) throw failure(job, args, result)
    },

    /** State of a container, or undefined when there is none. Waits two minutes for a daemon that is restarted. */
    async inspect(container: string): Promise<ContainerState | undefined> {
      const args = ['inspect', '--type', 'container', '--format', '{{json .State}}', container]
      return await pRetry(
        async () => {
          const result = await run(args)
          if (result.exitCode === 0) return JSON.parse(result.stdout) as ContainerState
          if (isMissing(result.stderr)) return undefined
          throw failure(container, args, result)
        },
        { ...retries, shouldRetry: ({ error }) => error instanceof JobError && error.retryable },
      )
    },

    /** Output of a container from byte `offset` on; ends with the container, or early with the connection. */
    async *logs(
      container: string,
      { follow, offset, signal }: { readonly follow: boolean; readonly offset: number; readonly signal: AbortSignal },
    ): AsyncGenerator<Buffer> {
      const { execa } = await import('execa')
      const child = execa(program, ['logs', ...(follow ? ['--follow'] : []), container], {
        ...{ reject: false, buffer: false, stdin: 'ignore', stdout: 'pipe', stderr: 'ignore', cancelSignal: signal },
      })
      let skip = offset
      try {
        for await (const bytes of child.stdout as AsyncIterable<Buffer>) {
          if (bytes.length > skip) yield bytes.subarray(skip)
          skip = Math.max(0, skip - bytes.length)
        }
      } finally {
        child.kill()
      }
      signal.throwIfAborted()
    },
  }
}

/** Half a second, doubling up to ten: two minutes in all. */
const retries = { retries: 15, minTimeout: 500, factor: 2, maxTimeout: 10_000 }

const isMissing = (stderr: string): boolean => /no such (object|container)/i.test(stderr)

function failure(job: string, [verb]: readonly string[], { stderr, exitCode }: Result): JobError {
  const said = stderr.trim() || `exit code ${exitCode}`
  return new JobError(`docker ${verb}: ${said}`, {
    ...{ executor: 'docker', job, exitCode, logTail: [] },
    retryable: /cannot connect|connection re(fused|set)|timeout|EOF\b|TLS handshake/i.test(said),
  })
}
