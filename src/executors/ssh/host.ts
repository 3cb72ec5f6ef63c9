import { InputError } from '../../errors.ts'

/** A host to log in to, and how the other nodes of a job reach it. */
export interface SshHost {
  /** Name or address as `ssh` takes it, an alias of `~/.ssh/config` too. */
  readonly name: string
  readonly user?: string | undefined
  readonly port?: number | undefined
  /** Address for the other nodes and for HCCL, where it is another than `name`. */
  readonly address?: string | undefined
}

/**
 * Reads `user@name:port`, of which only the name is needed.
 * @throws InputError for what `ssh` could take for something else than a host.
 */
export function parseHost(given: string | SshHost): SshHost {
  if (typeof given !== 'string') return checked(given, given.name)
  const found = /^(?:(?<user>[^@]+)@)?(?<name>\[[\da-fA-F:]+\]|[^:@]+)(?::(?<port>\d+))?$/.exec(given)
  if (!found?.groups) throw wrong(given)
  const { user, name = '', port } = found.groups
  return checked({ name: name.replace(/^\[(.*)\]$/, '$1'), user, port: port ? Number(port) : undefined }, given)
}

function checked(host: SshHost, given: string): SshHost {
  const isWord = (text: string | undefined) => text === undefined || /^[\w.][\w.:%-]*$/.test(text)
  if (!isWord(host.name) || !isWord(host.user) || !isWord(host.address) || host.name === '') throw wrong(given)
  return host
}

const wrong = (given: string): InputError =>
  new InputError(`ssh: ${JSON.stringify(given)} is no host.`, {
    hint: 'Write user@name:port; only the name is needed.',
  })
