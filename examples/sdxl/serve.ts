import { setTimeout as sleep } from 'node:timers/promises'
import { defineStep, JobError, PreparedNodes } from 'ascendflow'
import { z } from 'zod'

export const Server = z.object({ url: z.string(), device: z.number() })

/**
 * Starts the SDXL web UI on a node, in a container with a free NPU and the arguments of the vendor's guide, and waits
 * until it answers. The container goes on when the step has ended; `docker rm -f sdwebui` ends it.
 */
export const serve = defineStep({
  name: 'serve',
  version: 1,
  input: z.object({
    node: PreparedNodes,
    image: z.string(),
    /** Name or address under which this machine reaches the node. */
    host: z.string(),
    port: z.number().int().default(8183),
    container: z.string().default('sdwebui'),
    startSeconds: z.number().default(900),
  }),
  output: Server,
  omitFromKey: ['startSeconds'],
}).job({
  launch: ({ node, image, port, container }) => ({
    // A container of the name is started again: nothing is made twice.
    argv: [
      ...['sh', '-c', 'docker start "$0" 2>/dev/null || exec docker run -d --name "$0" "$@"', container],
      ...['-p', `${port}:${port}`, '--shm-size', '60g', '--network=bridge'],
      ...mounts.flatMap(mount => ['-v', mount]),
      ...['davinci_manager', 'hisi_hdc', 'devmm_svm', `davinci${freeDevice(node)}`].map(
        name => `--device=/dev/${name}`,
      ),
      ...[image, 'bash', '-c', webUi, 'webui', port],
    ],
    nodes: 1,
    devicesPerNode: 0,
  }),
  async collect({ node, host, port, startSeconds }, { signal, log }) {
    const url = `http://${host}:${port}`
    const deadline = Date.now() + startSeconds * 1000
    while (!(await answers(url, signal))) {
      if (Date.now() > deadline)
        throw new JobError(`${url} did not answer within ${startSeconds} s.`, {
          ...{ executor: 'docker', job: 'serve', retryable: false, logTail: [], hint: 'Read docker logs on the node.' },
        })
      log(`waiting for ${url}`)
      await sleep(1000, undefined, { signal })
    }
    return { url, device: freeDevice(node) }
  },
})

const mounts = [
  '/sys/fs/cgroup:/sys/fs/cgroup:ro',
  '/etc/localtime:/etc/localtime',
  '/usr/local/Ascend/driver:/usr/local/Ascend/driver',
  '/usr/local/bin/npu-smi:/usr/local/bin/npu-smi',
]

const webUi = `
cd /home/ma-user/stable-diffusion-webui
source /usr/local/Ascend/ascend-toolkit/set_env.sh
exec python3 launch.py --skip-torch-cuda-test --port "$1" --enable-insecure-extension-access --listen --log-startup \\
  --disable-safe-unpickle --skip-prepare-environment --api`.trim()

function freeDevice({ nodes }: z.infer<typeof PreparedNodes>): number {
  const free = nodes[0]?.devices.find(device => device.isFree)
  if (!free)
    throw new JobError('No NPU of the node is free.', {
      executor: 'docker',
      job: 'serve',
      retryable: false,
      logTail: [],
    })
  return free.phyId ?? free.npu
}

async function answers(url: string, signal: AbortSignal): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(5_000)]) })).ok
  } catch {
    signal.throwIfAborted()
    return false
  }
}
