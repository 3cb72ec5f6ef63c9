import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { acceptedFlags } from '../ascendspeed/parsers.ts'
import { findInputs } from '../data/find-inputs.ts'
import type { HandlerOptions } from '../data/handlers/handler.ts'
import type { PromptType } from '../data/handlers/prompt-templates.ts'
import { type HandlerName, handlerNames, handlerOf } from '../data/handlers/registry.ts'
import { preprocessCorpus } from '../data/preprocess.ts'
import { parseFlags } from './argparse.ts'
import { faultAt, logsToStderr, packageName, programName, raise, type Tool } from './tool.ts'

/**
 * `preprocess_data.py`, by the native engine. Gives the exit status.
 * Source of what it says: ModelLink 1.1, tools/preprocess_data.py and modellink/data/data_handler.py:64-111.
 */
export async function preprocessTool(tool: Tool, argv: readonly string[]): Promise<number> {
  const atRoot = logsToStderr(tool)
  const flags = parseFlags(argv, {
    program: programName(tool),
    accepted: acceptedFlags(tool.generation, ['preprocess']),
    required: atRoot ? ['input', 'output-prefix'] : ['tokenizer-type', 'output-prefix'],
    choices: {
      'tokenizer-type': ['BertWordPieceLowerCase', 'BertWordPieceCase', 'GPT2BPETokenizer', 'PretrainedFromHF'],
    },
    abbreviations: true,
  })
  const one = (name: string) => flags.get(name)?.[0]
  const [prefix, input, seqLength] = [one('output-prefix')!, one('input') ?? '', one('seq-length')]
  const handler = knownHandler(one('handler-name'))
  const folder = dirname(prefix)
  if (atRoot && !existsSync(folder)) return raise(tool, `ValueError: ${folder} is not a directory or does not exist`)
  tool.print(' > building PretrainFromHF tokenizer. Vocab file is un-used, loading tokenizer from pre-trained model')
  tool.printError(`INFO:__main__:building dataset: ${input}`)
  if (!existsSync(input)) return raise(tool, `ConnectionError: Couldn't reach '${input}' on the Hub (ConnectionError)`)
  const text = `${prefix}_text_document.bin`
  if (!existsSync(folder)) return raise(tool, `FileNotFoundError: [Errno 2] No such file or directory: '${text}'`)
  const logger = `${packageName(tool)}.${atRoot ? 'tasks.preprocess' : 'data'}.data_handler`
  const log = (message: string) => tool.printError(`INFO:${logger}:${message}`)
  if (faultAt(tool, 'host-oom')) tool.kill()
  if (faultAt(tool, 'disk-full')) {
    await writeFile(text, Buffer.alloc(64))
    return raise(tool, 'OSError: [Errno 28] No space left on device')
  }
  const began = Date.now()
  try {
    const { files } = await findInputs(input)
    const mapKeys = one('map-keys')
    const options: HandlerOptions = {
      mapKeys: mapKeys === undefined ? undefined : JSON.parse(mapKeys),
      promptType: one('prompt-type') as PromptType | undefined,
      compat: 'exact',
    }
    const { report, vocabSize } = await preprocessCorpus({
      ...{ ...options, files, handler, tokenizerDir: one('tokenizer-name-or-path') ?? '', outputPrefix: prefix },
      ...{ jsonKeys: flags.get('json-keys'), seqLength: seqLength === undefined ? undefined : Number(seqLength) },
      ...{ appendEod: flags.has('append-eod'), workers: 1 },
    })
    log(`Vocab size: ${vocabSize}`)
    log(`Output prefix: ${prefix}`)
    log(`Time to startup:${(Date.now() - began) / 1000}`)
    const { rows, overLength, train } = report
    const [interval, seconds] = [Number(one('log-interval') ?? 100), Math.max(1, Date.now() - began) / 1000]
    for (let done = interval; done <= rows; done += interval)
      log(`Processed ${done} documents (${rows / seconds} docs/s, ${train.tokens / seconds / 2 ** 18} MB/s).`)
    // A third is right for the three keys of instructions, and too few for text; later generations always say 0.
    const skipped = handlerOf(handler, options).infix === '_packed' ? overLength : Math.floor(overLength / 3)
    log(`Skip ${atRoot ? 0 : skipped} sample exceeded seq-length(${seqLength ?? 'None'})`)
    return 0
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    return raise(tool, /no eos/.test(message) ? "AttributeError: Token doesn't exist" : `RuntimeError: ${message}`)
  }
}

/** An unknown name, or none, means the one for pretraining: the toolchain says nothing of it. */
function knownHandler(name: string | undefined): HandlerName {
  return handlerNames.find(known => known === name) ?? 'GeneralPretrainHandler'
}
