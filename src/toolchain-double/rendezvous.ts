import { connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** What the first node tells the others. */
export type NodeMessage =
  | { readonly type: 'line'; readonly line: string }
  /** An iteration is done; its line follows for the node that prints it. */
  | { readonly type: 'iteration'; readonly iteration: number }
  | { readonly type: 'end'; readonly status: number }

export interface Meeting {
  /** Tells one node, or all others. */
  send(message: NodeMessage, node?: number): void
  /** Rejects when a node is lost before `close`. */
  readonly lost: Promise<never>
  /** Resolves when all has been said. */
  close(): Promise<void>
}

export interface MeetingPlace {
  readonly address: string
  readonly port: number
  /** How long nodes wait for each other. */
  readonly timeoutMs: number
}

/** The first node: waits for the others. Rejects when one does not come in time. */
export async function openMeeting(place: MeetingPlace, nodes: number): Promise<Meeting> {
  const sockets = new Map<number, Socket>()
  let closed = false
  let isLost: (error: Error) => void = () => {}
  const lost = new Promise<never>((_, reject) => {
    isLost = reject
  })
  lost.catch(() => {})
  const server = createServer()
  const complete = new Promise<void>(resolve => {
    server.on('connection', socket => {
      socket.on('error', () => {})
      // The first and only thing that it says is its number, of a few bytes.
      socket.once('data', said => {
        const node = Number(said)
        socket.resume()
        sockets.set(node, socket)
        socket.on('close', () => {
          if (!closed) isLost(new Error(`node ${node} is gone`))
        })
        if (sockets.size === nodes - 1) resolve()
      })
    })
  })
  await listening(server, place)
  const close = async () => {
    closed = true
    server.close()
    const open = [...sockets.values()].filter(socket => !socket.destroyed)
    await Promise.all(open.map(socket => new Promise<void>(resolve => socket.end(resolve))))
  }
  const came = await Promise.race([complete.then(() => true), sleep(place.timeoutMs, false, { ref: false })])
  if (!came) {
    await close()
    throw new Error(`${nodes - 1 - sockets.size} of ${nodes} nodes did not come`)
  }
  return {
    lost,
    close,
    send(message, node) {
      const to = node === undefined ? [...sockets.values()] : [sockets.get(node)]
      for (const socket of to) socket?.write(`${JSON.stringify(message)}\n`)
    },
  }
}

/** Any other node: goes to the meeting and gives what is told there. Rejects when the first node cannot be reached. */
export async function joinMeeting(place: MeetingPlace, node: number): Promise<AsyncIterable<NodeMessage>> {
  const deadline = Date.now() + place.timeoutMs
  for (;;) {
    const socket = await reach(place)
    if (socket) {
      socket.on('error', () => {})
      socket.write(`${node}\n`)
      return messages(socket)
    }
    if (Date.now() > deadline) throw new Error(`nobody answers at ${place.address}:${place.port}`)
    await sleep(50)
  }
}

async function* messages(socket: Socket): AsyncIterable<NodeMessage> {
  let rest = ''
  try {
    for await (const chunk of socket.setEncoding('utf8')) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) yield JSON.parse(line) as NodeMessage
    }
  } catch (error) {
    // A connection that was reset has come to its end too.
    if (!(error as NodeJS.ErrnoException).syscall) throw error
  }
}

async function listening(server: Server, { port }: MeetingPlace): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, resolve)
  })
}

async function reach({ address, port }: MeetingPlace): Promise<Socket | undefined> {
  return new Promise(resolve => {
    const socket = connect(port, address)
    socket.once('connect', () => resolve(socket))
    socket.once('error', () => resolve(undefined))
  })
}
