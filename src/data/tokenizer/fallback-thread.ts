import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'

/** Asks a question and waits for the answer, which another thread finds asynchronously. */
export type BlockingCall = (question: FallbackQuestion) => FallbackAnswer

export type FallbackQuestion =
  | { readonly text: string; readonly addSpecialTokens: boolean }
  | { readonly ids: readonly number[] }

export interface FallbackAnswer {
  readonly ids?: Int32Array
  readonly text?: string
  /** What went wrong, in the words of the package. */
  readonly failed?: string
}

/** Longest that an answer is waited for: a thread that died (out of memory, say) gives none. */
const waitMs = 600_000

/**
 * A thread of its own for a tokenizer of the package `tokenizers`, whose encode is asynchronous only. The thread starts
 * with the first question and ends when the call is no longer held. Each question costs about 50 µs on the way.
 */
export function createBlockingCall(source: { readonly packagePath: string; readonly json: string }): BlockingCall {
  const turn = new Int32Array(new SharedArrayBuffer(4))
  let port: MessagePort | undefined
  const start = () => {
    const { port1, port2 } = new MessageChannel()
    const workerData = { ...source, port: port2, turn }
    // An error in the thread is told in its answers.
    new Worker(program, { eval: true, workerData, transferList: [port2] }).on('error', () => {}).unref()
    port1.unref()
    ports.register(call, port1)
    return port1
  }
  const call: BlockingCall = question => {
    port ??= start()
    Atomics.store(turn, 0, 0)
    port.postMessage(question)
    const isLate = Atomics.wait(turn, 0, 0, waitMs) === 'timed-out'
    const answer = isLate ? undefined : receiveMessageOnPort(port)?.message
    return answer ?? { failed: `no answer within ${waitMs / 1000} s` }
  }
  return call
}

/** Closes the way to a thread whose call is gone, whereupon the thread ends. */
const ports = new FinalizationRegistry<MessagePort>(port => port.close())

/** As text, so that it needs no file of its own beside this one, whatever runs or bundles it. */
const program = `
const { packagePath, json, port, turn } = require('node:worker_threads').workerData
let tokenizer
const answerTo = async question => {
  tokenizer ??= require(packagePath).Tokenizer.fromString(json)
  if (question.ids) return { text: await tokenizer.decode(question.ids, false) }
  const encoding = await tokenizer.encode(question.text, null, { addSpecialTokens: question.addSpecialTokens })
  return { ids: Int32Array.from(encoding.getIds()) }
}
port.on('message', async question => {
  port.postMessage(await answerTo(question).catch(error => ({ failed: String(error) })))
  Atomics.store(turn, 0, 1)
  Atomics.notify(turn, 0)
})`
