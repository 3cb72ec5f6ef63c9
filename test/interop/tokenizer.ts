// Writes the quickstart's model and tokenizer into the folder given.
import { makeModel } from '../../examples/quickstart/make-model.ts'

await makeModel(process.argv[2]!)
