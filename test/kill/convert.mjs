// Kills conversions with SIGKILL at random moments, runs them again to the end, and checks: every file as an
// undisturbed conversion wrote it, files that were finished not written again, nothing left over. The moments go to each
// direction in turn, and by twos to one thread and to two. Usage: npm run test:kill:convert [-- MOMENTS [SEED]]
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createSafetensors } from 'ascendflow/formats'

const self = fileURLToPath(import.meta.url)
if (process.argv[2] === 'work') await work(JSON.parse(process.argv[3]))
else await main(Number(process.argv[2] ?? 50), Number(process.argv[3] ?? Date.now() % 100_000))

async function work({ direction, from, to, like, workers }) {
  const { openHfModel, openMegatronCheckpoint, writeHfModel, writeMegatronCheckpoint } = await import(
    'ascendflow/formats'
  )
  console.log('begins')
  const rest = { resume: true, workers }
  if (direction === 'hfToMegatron') {
    const source = await openHfModel(from)
    const { architecture } = source
    const parallel = { tp: 2, pp: 4 }
    await writeMegatronCheckpoint(to, { source, architecture, parallel, layout: 'mcore', iteration: 1, ...rest })
  } else {
    const source = await openMegatronCheckpoint(from)
    const { architecture } = source
    await writeHfModel(to, { source, architecture, like, maxShardBytes: 4e6, ...rest })
  }
}

async function main(moments, seed) {
  console.log(`${moments} moments, seed ${seed}`)
  let state = seed
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
  const dir = mkdtempSync(join(tmpdir(), 'ascendflow-kill-'))
  const at = name => join(dir, name)
  try {
    await makeModel(at('hf'))
    const directions = [
      { direction: 'hfToMegatron', from: at('hf'), to: at('calm-mg') },
      { direction: 'megatronToHf', from: at('calm-mg'), to: at('calm-hf'), like: at('hf') },
    ]
    const calm = new Map()
    for (const job of directions) {
      const begin = performance.now()
      await convert(job)
      calm.set(job.direction, { digests: digests(job.to), ms: performance.now() - begin })
    }
    let kept = 0
    for (let moment = 0; moment < moments; ) {
      const job = { ...directions[moment % 2], to: at('killed'), workers: 1 + ((moment >> 1) % 2) }
      const { digests: wanted, ms } = calm.get(job.direction)
      const { killed } = await convert(job, random() * ms)
      if (!killed) {
        rmSync(job.to, { recursive: true })
        continue
      }
      const before = finished(dir, job)
      await convert(job)
      const after = identities(job.to)
      for (const [file, identity] of before)
        if (after.get(file) !== identity) throw new Error(`moment ${moment}: ${file} was finished and is written again`)
      const found = digests(job.to)
      for (const file of new Set([...wanted.keys(), ...found.keys()]))
        if (wanted.get(file) !== found.get(file)) throw new Error(`moment ${moment}: ${file} is not as undisturbed`)
      const left = [dir, job.to].flatMap(folder => readdirSync(folder).filter(name => name.startsWith('.')))
      if (left.length > 0) throw new Error(`moment ${moment}: left over: ${left.join(', ')}`)
      kept += before.size
      moment++
      rmSync(job.to, { recursive: true })
    }
    console.log(`${moments} kills: all files as undisturbed, ${kept} finished files kept, nothing left over`)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

function convert(job, killAfterMs) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [self, 'work', JSON.stringify(job)], { stdio: ['ignore', 'pipe', 'pipe'] })
    let errors = ''
    let timer
    child.stderr.on('data', chunk => (errors += chunk))
    child.stdout.once('data', () => {
      if (killAfterMs !== undefined) timer = setTimeout(() => child.kill('SIGKILL'), killAfterMs)
    })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      if (code !== 0 && signal !== 'SIGKILL')
        reject(new Error(`the conversion ended with ${code ?? signal}:\n${errors}`))
      else resolve({ killed: signal === 'SIGKILL' })
    })
  })
}

/** Files that a killed conversion noted as finished, and which they are. */
function finished(dir, { direction, to }) {
  const [folder, path] = direction === 'hfToMegatron' ? [to, 'iter_0000001'] : [dir, 'killed']
  try {
    const { parts } = JSON.parse(readFileSync(join(folder, `.${path}.parts.json`), 'utf8'))
    const files = Object.values(parts).flatMap(part => part.map(({ file }) => file))
    const place = join(folder, `.${path}.partial`)
    return new Map(
      files.map(file => [direction === 'hfToMegatron' ? join(path, file) : file, identity(join(place, file))]),
    )
  } catch {
    return new Map()
  }
}

function identity(file) {
  const { ino, mtimeMs } = statSync(file)
  return `${ino} ${mtimeMs}`
}

function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
}

function identities(folder) {
  return new Map(filesBelow(folder).map(file => [relative(folder, file), identity(file)]))
}

function digests(folder) {
  const sum = file => createHash('sha256').update(readFileSync(file)).digest('hex')
  return new Map(filesBelow(folder).map(file => [relative(folder, file), sum(file)]))
}

/** A Llama of about 28 MB. */
async function makeModel(dir) {
  const [hidden, ffn, layers, vocab] = [256, 704, 16, 2000]
  const tensor = (name, ...shape) => ({ name, dtype: 'BF16', shape })
  const tensors = [
    tensor('model.embed_tokens.weight', vocab, hidden),
    ...Array.from({ length: layers }, (_, i) => `model.layers.${i}`).flatMap(layer => [
      ...['q', 'k', 'v', 'o'].map(name => tensor(`${layer}.self_attn.${name}_proj.weight`, hidden, hidden)),
      ...['gate', 'up'].map(name => tensor(`${layer}.mlp.${name}_proj.weight`, ffn, hidden)),
      tensor(`${layer}.mlp.down_proj.weight`, hidden, ffn),
      ...['input', 'post_attention'].map(name => tensor(`${layer}.${name}_layernorm.weight`, hidden)),
    ]),
    ...[tensor('model.norm.weight', hidden), tensor('lm_head.weight', vocab, hidden)],
  ]
  mkdirSync(dir)
  const config = {
    ...{ architectures: ['LlamaForCausalLM'], model_type: 'llama', hidden_size: hidden, intermediate_size: ffn },
    ...{ num_hidden_layers: layers, num_attention_heads: 8, num_key_value_heads: 8, vocab_size: vocab },
    ...{ max_position_embeddings: 512, rms_norm_eps: 1e-5, torch_dtype: 'bfloat16', tie_word_embeddings: false },
  }
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config))
  const writer = await createSafetensors(join(dir, 'model.safetensors'), tensors, { metadata: { format: 'pt' } })
  for (const { name, shape } of tensors) await writer.write(name, randomBytes(shape.reduce((a, b) => a * b, 2)))
  await writer.finish()
}
