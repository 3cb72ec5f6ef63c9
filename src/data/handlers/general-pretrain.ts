import { type Handler, withEnd } from './handler.ts'

/**
 * Plain text: each of the JSON keys' columns becomes a dataset, each row a document of one sequence.
 *
 * An empty text leaves no document at all. Special tokens are added as the tokenizer does by default.
 * Source: ModelLink, data_handler.py, GeneralPretrainHandler.
 */
export const generalPretrainHandler: Handler = {
  name: 'GeneralPretrainHandler',
  columns: jsonKeys => jsonKeys,
  keys: jsonKeys => jsonKeys,
  infix: '',
  encode: (row, { tokenizer, jsonKeys, eod }) =>
    jsonKeys.map(key => {
      const text = row.text(key)
      if (text === '') return []
      const ids = tokenizer.encode(text)
      return [eod === undefined ? ids : withEnd(ids, eod)]
    }),
}
