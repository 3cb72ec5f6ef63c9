import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '../..')
/** One pixel, from the PNG specification's own chunks. */
const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)

let dir: string
let server: Server
let port: number
const asked: unknown[] = []
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sdxl-'))
  asked.length = 0
  let visits = 0
  // The web UI: not ready at first, then a page and the route that draws.
  server = createServer(async (request, response) => {
    if (request.method === 'POST' && request.url === '/sdapi/v1/txt2img') {
      let text = ''
      for await (const chunk of request.setEncoding('utf8')) text += chunk
      asked.push(JSON.parse(text))
      response.setHeader('content-type', 'application/json')
      return void response.end(JSON.stringify({ images: [png.toString('base64')], parameters: {}, info: '{}' }))
    }
    response.writeHead(request.url === '/' ? (++visits > 1 ? 200 : 503) : 404).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  port = (server.address() as AddressInfo).port
})
afterEach(() => void server.close())

/** What a DevServer node has: two NPUs of which one is busy, and a docker that notes what it is told. */
async function node(): Promise<string> {
  const bin = join(dir, 'bin')
  await mkdir(bin)
  const table = join(root, 'test/nodes/npu-smi/wide.txt')
  const idle = `
| 3     910B4               | OK            | 101.9       44                0    / 0                                 |
| 0                         | 0000:02:00.0  | 0           0    / 0          3120 / 65536                             |`
  const [devices = '', processes = ''] = (await readFile(table, 'utf8')).split(/(?=\| NPU {5}Chip)/)
  await writeFile(join(dir, 'table'), `${devices.trimEnd()}${idle}\n${processes}`)
  const commands = {
    'npu-smi': `exec /bin/cat ${dir}/table`,
    docker: `[ "$1" = start ] && exit 1
      [ "$1" = run ] && printf '%s\\0' "$@" > ${dir}/docker-run
      echo "Docker version 18.09.0"`,
    cat: 'case "$1" in /proc/sys/*) echo 1 ;; */version.info) echo Version=23.0.6 ;; *) exec /bin/cat "$@" ;; esac',
    iptables: 'exit 1',
  }
  for (const [name, script] of Object.entries(commands)) {
    await writeFile(join(bin, name), `#!/bin/sh\n${script}\n`)
    await chmod(join(bin, name), 0o755)
  }
  return bin
}

describe('examples/sdxl-devserver.ts', () => {
  it("starts the web UI on a free NPU with the guide's arguments and writes the picture that it draws", async () => {
    const env = {
      ...process.env,
      ...{ PATH: `${await node()}:${process.env.PATH}`, ASCENDFLOW_STORE: join(dir, 'store'), SDXL_PORT: String(port) },
      SDXL_IMAGE: 'sdxl:1',
    }
    const example = join(root, 'examples/sdxl-devserver.ts')
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', example], { env, cwd: root })
    expect(await readFile(stdout.trimEnd().split('\n').at(-1)!)).toEqual(png)
    expect(asked).toEqual([{ prompt: 'a dog', seed: 1 }])
    const words = (await readFile(join(dir, 'docker-run'), 'utf8')).split('\0').slice(0, -1)
    expect(words.slice(0, -5)).toEqual([
      ...['run', '-d', '--name', 'sdwebui', '-p', `${port}:${port}`, '--shm-size', '60g', '--network=bridge'],
      ...['-v', '/sys/fs/cgroup:/sys/fs/cgroup:ro', '-v', '/etc/localtime:/etc/localtime'],
      ...['-v', '/usr/local/Ascend/driver:/usr/local/Ascend/driver'],
      ...['-v', '/usr/local/bin/npu-smi:/usr/local/bin/npu-smi'],
      ...['--device=/dev/davinci_manager', '--device=/dev/hisi_hdc', '--device=/dev/devmm_svm'],
      '--device=/dev/davinci3',
      'sdxl:1',
    ])
    expect(words.slice(-5)).toEqual([
      'bash',
      '-c',
      expect.stringContaining('exec python3 launch.py'),
      'webui',
      String(port),
    ])
    const flags = ['--skip-torch-cuda-test', '--enable-insecure-extension-access', '--listen', '--log-startup']
    for (const flag of [...flags, '--disable-safe-unpickle', '--skip-prepare-environment', '--api'])
      expect(words.at(-3)).toContain(flag)
  })
})
