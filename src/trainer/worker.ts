import { parentPort, workerData } from 'node:worker_threads'
import { runModel } from './llama.ts'
import { updateWeights } from './optimizer.ts'
import { places, type RankData, startRank } from './rank.ts'
import { abort, aborting, nextCommand } from './sync.ts'

/** One rank: carries out commands until the host or another rank gives up. Rank 0 tells the host when all are done. */
const rank = startRank(workerData as RankData)
try {
  for (let sequence = 0; ; sequence++) {
    const command = nextCommand(rank.words, sequence)
    if (command === 'update') updateWeights(rank)
    else runModel(rank, command === 'accumulate' ? rank.numbers[places.lossScale]! : 0)
    if (rank.index === 0) parentPort!.postMessage('done')
  }
} catch (error) {
  abort(rank.words)
  if (error !== aborting) throw error
}
