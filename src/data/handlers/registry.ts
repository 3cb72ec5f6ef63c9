import { InputError } from '../../errors.ts'
import { alpacaPretrainHandler } from './alpaca-pretrain.ts'
import { belleMultiTurnHandler } from './belle-multi-turn.ts'
import { renameColumns } from './column-names.ts'
import { generalInstructionHandler } from './general-instruction.ts'
import { generalPretrainHandler } from './general-pretrain.ts'
import type { Handler, HandlerOptions } from './handler.ts'
import { leetcodePythonHandler } from './leetcode-python.ts'
import { mossInstructionHandler, mossMultiTurnHandler } from './moss.ts'
import {
  alpacaStyleInstructionHandler,
  alpacaStylePairwiseHandler,
  sharegptStyleInstructionHandler,
  sharegptStylePairwiseHandler,
} from './style-handlers.ts'

type HandlerFactory = (options: HandlerOptions) => Handler

const handlers = {
  GeneralPretrainHandler: plain(() => generalPretrainHandler),
  AlpacaPretrainHandler: plain(() => alpacaPretrainHandler),
  GeneralInstructionHandler: plain(() => generalInstructionHandler),
  BelleMultiTurnInstructionHandler: plain(belleMultiTurnHandler),
  MOSSMultiTurnHandler: plain(mossMultiTurnHandler),
  MOSSInstructionHandler: plain(mossInstructionHandler),
  LeetcodePythonInstructionHandler: plain(() => leetcodePythonHandler),
  AlpacaStyleInstructionHandler: alpacaStyleInstructionHandler,
  SharegptStyleInstructionHandler: sharegptStyleInstructionHandler,
  AlpacaStylePairwiseHandler: alpacaStylePairwiseHandler,
  SharegptStylePairwiseHandler: sharegptStylePairwiseHandler,
} satisfies Record<string, HandlerFactory>

/** Names of the handlers that this version knows. */
export type HandlerName = keyof typeof handlers

export const handlerNames = Object.keys(handlers) as readonly HandlerName[]

/**
 * The handler of that name, made with these options.
 * @throws InputError for an unknown name, with the list (ModelLink itself silently takes GeneralPretrainHandler then),
 * and for options that the handler does not take, or lacks.
 */
export function handlerNamed(name: string, options: HandlerOptions = {}): Handler {
  if (Object.hasOwn(handlers, name)) return (handlers[name as HandlerName] as HandlerFactory)(options)
  throw new InputError(`There is no handler ${JSON.stringify(name)}.`, {
    field: 'handler',
    hint: `Known are ${handlerNames.slice(0, -1).join(', ')} and ${handlerNames.at(-1)}.`,
  })
}

/** The handler itself, where a name may be given for it. */
export function handlerOf(handler: HandlerName | Handler, options: HandlerOptions): Handler {
  return typeof handler === 'string' ? handlerNamed(handler, options) : handler
}

/** A handler without templates, whose columns have the names that the rows have. */
function plain(make: HandlerFactory): HandlerFactory {
  return options => {
    const handler = make(options)
    const { promptType, mapKeys } = options
    if (promptType !== undefined) {
      throw new InputError(`${handler.name} takes no promptType; ${JSON.stringify(promptType)} was given.`, {
        field: 'promptType',
        hint: 'The Alpaca and ShareGPT style handlers do.',
      })
    }
    return mapKeys === undefined ? handler : renameColumns(handler, mapKeys)
  }
}
