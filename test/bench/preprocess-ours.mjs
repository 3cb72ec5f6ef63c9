// Preprocesses a corpus with the built package and says what that took: preprocess-ours.mjs '{"file": …}'
import { corpus, hfModel, preprocess, run } from 'ascendflow'

const { file, tokenizerDir, out, workers } = JSON.parse(process.argv[2])
const dataset = preprocess({ corpus: corpus(file), tokenizer: hfModel(tokenizerDir), appendEod: true, workers })
const { path, tokens } = await run(dataset, { store: out })
const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage()
console.log(
  JSON.stringify({ prefix: path, tokens, peakBytes: 1024 * maxRSS, cpuSeconds: (userCPUTime + systemCPUTime) / 1e6 }),
)
