#!/usr/bin/env node
// A docker client and daemon in one, for tests: takes the arguments that the executor may give and refuses all others in
// docker's words, keeps containers as files in $DOCKER_STUB, and runs their commands as processes of this machine.
import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const root = process.env.DOCKER_STUB
mkdirSync(root, { recursive: true })
const [verb, ...args] = process.argv.slice(2)
const verbs = { create, start, stop, inspect, logs, rm, run: runContainer }
if (!verbs[verb]) fail(`docker: '${verb}' is not a docker command.`)
// As a restarted daemon does it, to whoever asks meanwhile.
if (existsSync(join(root, 'away')) && verb !== 'run')
  fail('Cannot connect to the Docker daemon. Is the docker daemon running?')
await verbs[verb]()

function create() {
  const { flags, rest } = parse(args, {
    valued: [
      'name',
      'label',
      'network',
      'shm-size',
      'log-driver',
      'log-opt',
      'user',
      'device',
      'mount',
      'env',
      'entrypoint',
    ],
    plain: ['init'],
  })
  const [name] = flags.name ?? fail('a name is needed here')
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name)) fail(`Invalid container name (${name})`)
  const [image, ...command] = rest
  if (image !== 'trainer:1') fail(`Error response from daemon: No such image: ${image}`)
  if (!/^\d+[kmg]$/.test(flags['shm-size'][0])) fail(`invalid size: '${flags['shm-size'][0]}'`)
  if (flags['log-driver'][0] !== 'json-file' || flags['log-opt'][0] !== 'max-size=1t')
    fail('unexpected logging options')
  for (const device of flags.device ?? []) if (!/^\/dev\/\w+$/.test(device)) fail(`bad device ${device}`)
  const mounts = (flags.mount ?? []).map(readMount)
  const targets = mounts.map(mount => mount.target)
  if (new Set(targets).size < targets.length) fail('Error response from daemon: Duplicate mount point')
  const env = (flags.env ?? []).map(word => (word.includes('=') ? word : `${word}=${process.env[word] ?? ''}`))
  const container = {
    name,
    argv: [flags.entrypoint[0], ...command],
    env,
    mounts,
    devices: flags.device ?? [],
    network: flags.network[0],
  }
  mkdirSync(join(root, 'new'), { recursive: true })
  const made = join(root, 'new', String(process.pid))
  mkdirSync(made)
  save(made, container, { Status: 'created', ExitCode: 0, OOMKilled: false, Error: '' })
  writeFileSync(join(made, 'log'), '')
  try {
    renameSync(made, join(root, name))
  } catch {
    rmSync(made, { recursive: true })
    fail(`Error response from daemon: Conflict. The container name "/${name}" is already in use.`)
  }
  process.stdout.write(`${name}\n`)
}

/** One line of CSV, as docker's own client reads it. */
function readMount(text) {
  const fields = [...text.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,"]*))/g)].map(
    ([, quoted, bare]) => quoted?.replaceAll('""', '"') ?? bare,
  )
  const mount = {}
  for (const field of fields) {
    const [key, ...value] = field.split('=')
    if (!['type', 'source', 'target', 'readonly'].includes(key)) fail(`unexpected key '${key}' in '${field}'`)
    mount[key] = value.join('=')
  }
  if (mount.type !== 'bind' || !mount.source?.startsWith('/') || mount.source !== mount.target)
    fail(`invalid mount ${text}`)
  if (!existsSync(mount.source))
    fail(
      `Error response from daemon: invalid mount config for type "bind": bind source path does not exist: ${mount.source}`,
    )
  return mount
}

/** Docker starts an ended container again, and leaves a running one. */
async function start() {
  const dir = known(args[0])
  if (state(dir).Status === 'running') return
  update(dir, { Status: 'running' })
  const log = openSync(join(dir, 'daemon.log'), 'a')
  spawn(process.execPath, [fileURLToPath(import.meta.url), 'run', args[0]], {
    detached: true,
    stdio: ['ignore', log, log],
  }).unref()
  while (!existsSync(join(dir, 'started')) && state(dir).Status === 'running') await sleep(5)
}

/** The container itself: its first process, and all others with its mark, go together. */
function runContainer() {
  const [name] = args
  const dir = known(name)
  const { argv, env } = JSON.parse(readFileSync(join(dir, 'container.json'), 'utf8'))
  const log = openSync(join(dir, 'log'), 'a')
  const variables = Object.fromEntries(
    env.map(word => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]),
  )
  const child = spawn(argv[0], argv.slice(1), {
    ...{ cwd: '/', detached: true, stdio: ['ignore', log, log] },
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', ...variables, STUB_CONTAINER: name },
  })
  writeFileSync(join(dir, 'started'), String(child.pid))
  child.on('exit', async (code, signal) => {
    await killAll(name)
    const ExitCode = code ?? 128 + { SIGKILL: 9, SIGTERM: 15 }[signal]
    update(dir, { Status: 'exited', ExitCode, OOMKilled: existsSync(join(root, 'oom')) })
  })
}

async function stop() {
  const { flags, rest } = parse(args, { valued: ['t'], plain: [] })
  const dir = known(rest[0])
  const end = Date.now() + Number(flags.t[0]) * 1000
  signal(Number(readFileSync(join(dir, 'started'), 'utf8')), 'SIGTERM')
  while (Date.now() < end && state(dir).Status === 'running') await sleep(20)
  while (state(dir).Status === 'running') {
    await killAll(rest[0])
    await sleep(20)
  }
  process.stdout.write(`${rest[0]}\n`)
}

function inspect() {
  const { flags, rest } = parse(args, { valued: ['type', 'format'], plain: [] })
  if (flags.type[0] !== 'container' || flags.format[0] !== '{{json .State}}') fail('unexpected format')
  if (!existsSync(join(root, rest[0], 'state.json'))) fail(`Error: No such container: ${rest[0]}`)
  process.stdout.write(`${JSON.stringify(state(join(root, rest[0])))}\n`)
}

/** While `cut` is there, a follower is cut off after that many bytes, as by a daemon that is restarted. */
async function logs() {
  const { flags, rest } = parse(args, { valued: [], plain: ['follow'] })
  const dir = known(rest[0])
  const cut = existsSync(join(root, 'cut')) ? Number(readFileSync(join(root, 'cut'), 'utf8')) : Number.POSITIVE_INFINITY
  let at = 0
  for (;;) {
    const { Status } = state(dir)
    const text = readFileSync(join(dir, 'log'))
    const end = flags.follow ? Math.min(text.length, cut) : text.length
    if (end > at) at += writeSync(1, text.subarray(at, end))
    if (flags.follow && at >= cut) {
      rmSync(join(root, 'cut'), { force: true })
      fail('error from daemon in stream: unexpected EOF')
    }
    if (at === text.length && (!flags.follow || Status === 'exited')) return
    await sleep(20)
  }
}

function rm() {
  const { flags, rest } = parse(args, { valued: [], plain: ['force'] })
  const dir = known(rest[0])
  if (state(dir).Status === 'running' && !flags.force)
    fail(`cannot remove container "/${rest[0]}": container is running`)
  rmSync(dir, { recursive: true })
  process.stdout.write(`${rest[0]}\n`)
}

/** `--flag value`, `--flag` and `-t value`; the first other word begins the rest. */
function parse(words, { valued, plain }) {
  const flags = {}
  for (let at = 0; at < words.length; at++) {
    const flag = /^--?([\w-]+)$/.exec(words[at])?.[1]
    if (flag === undefined) return { flags, rest: words.slice(at) }
    if (plain.includes(flag)) flags[flag] = true
    else if (valued.includes(flag)) flags[flag] = [...(flags[flag] ?? []), words[++at]]
    else fail(`unknown flag: ${words[at]}`)
  }
  return { flags, rest: [] }
}

function known(name) {
  const dir = join(root, name)
  return existsSync(dir) && statSync(dir).isDirectory()
    ? dir
    : fail(`Error response from daemon: No such container: ${name}`)
}

function state(dir) {
  return JSON.parse(readFileSync(join(dir, 'state.json'), 'utf8'))
}

function update(dir, change) {
  writeFileSync(join(dir, `.state.${process.pid}`), JSON.stringify({ ...state(dir), ...change }))
  renameSync(join(dir, `.state.${process.pid}`), join(dir, 'state.json'))
}

function save(dir, container, state) {
  writeFileSync(join(dir, 'container.json'), JSON.stringify(container))
  writeFileSync(join(dir, 'state.json'), JSON.stringify(state))
}

async function killAll(name) {
  for (;;) {
    const left = readdirSync('/proc').filter(
      pid => /^\d+$/.test(pid) && environment(pid).includes(`STUB_CONTAINER=${name}`),
    )
    if (left.length === 0) return
    for (const pid of left) signal(Number(pid), 'SIGKILL')
    await sleep(5)
  }
}

function environment(pid) {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
  } catch {
    return []
  }
}

function signal(pid, name) {
  try {
    process.kill(pid, name)
  } catch {
    // It ended by itself.
  }
}

function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(verb === 'create' ? 125 : 1)
}
