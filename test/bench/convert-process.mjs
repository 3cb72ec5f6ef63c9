// One conversion in a process of its own; prints seconds, CPU seconds and the peak of its memory as JSON.
import { openHfModel, openMegatronCheckpoint, writeHfModel, writeMegatronCheckpoint } from 'ascendflow/formats'

const { direction, from, to, like, tp, pp, maxShardBytes, flush, workers } = JSON.parse(process.argv[2])
const begin = performance.now()
if (direction === 'hfToMegatron') {
  const source = await openHfModel(from)
  const { architecture } = source
  await writeMegatronCheckpoint(to, {
    source,
    architecture,
    parallel: { tp, pp },
    layout: 'legacy',
    iteration: 1,
    ...{ flush, workers },
  })
  await source.close()
} else {
  const source = await openMegatronCheckpoint(from)
  await writeHfModel(to, {
    source,
    architecture: source.architecture,
    like,
    ...{ maxShardBytes, flush, workers },
  })
  await source.close()
}
const seconds = (performance.now() - begin) / 1000
const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage()
console.log(JSON.stringify({ seconds, peakBytes: maxRSS * 1024, cpuSeconds: (userCPUTime + systemCPUTime) / 1e6 }))
