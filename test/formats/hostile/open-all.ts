// Opens each file or folder that it is given by its path, and prints how it was refused, the processor time that it
// took (other work on the machine does not count) and the most memory that the process has had so far. A program of its
// own, so that nothing else counts.
import { readTracker } from '../../../src/checkpoint/megatron-folder.ts'
import { openSafetensors } from '../../../src/formats/safetensors.ts'
import { openSafetensorsFolder } from '../../../src/formats/safetensors-folder.ts'
import { openTorchFile } from '../../../src/formats/torch-file.ts'
import { readArchitecture } from '../../../src/models/config.ts'

const open = (path: string): Promise<unknown> =>
  path.endsWith('.pt')
    ? openTorchFile(path)
    : path.endsWith('.safetensors')
      ? openSafetensors(path)
      : path.endsWith('-tracker')
        ? readTracker(path)
        : path.endsWith('-config')
          ? readArchitecture(path)
          : openSafetensorsFolder(path)

const before = process.resourceUsage().maxRSS
for (const path of process.argv.slice(2)) {
  // What was refused before is garbage.
  globalThis.gc?.()
  const start = process.cpuUsage()
  const code = await open(path).then(
    () => 'opened',
    error => error.code ?? String(error),
  )
  const { user, system } = process.cpuUsage(start)
  const ms = Math.round((user + system) / 1000)
  const megabytes = Math.round((process.resourceUsage().maxRSS - before) / 1024)
  process.stdout.write(`${JSON.stringify({ path, code, ms, megabytes })}\n`)
}
