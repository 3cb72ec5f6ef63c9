import { InputError } from '../../errors.ts'
import { generalInstructionHandler } from './general-instruction.ts'
import { generalPretrainHandler } from './general-pretrain.ts'
import type { Handler } from './handler.ts'

const handlers = {
  GeneralPretrainHandler: generalPretrainHandler,
  GeneralInstructionHandler: generalInstructionHandler,
} satisfies Record<string, Handler>

/** Names of the handlers that this version knows. */
export type HandlerName = keyof typeof handlers

export const handlerNames = Object.keys(handlers) as readonly HandlerName[]

/** @throws InputError for an unknown name, with the list. (ModelLink itself silently takes GeneralPretrainHandler then.) */
export function handlerNamed(name: string): Handler {
  if (Object.hasOwn(handlers, name)) return handlers[name as HandlerName]
  throw new InputError(`There is no handler ${JSON.stringify(name)}.`, {
    field: 'handler',
    hint: `Known are ${handlerNames.join(' and ')}.`,
  })
}
