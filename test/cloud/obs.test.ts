import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from 'ascendflow'
import { downloadFile, type Obs, obs, obsSync, uploadFile } from 'ascendflow/modelarts'
import { type CloudDouble, type CloudDoubleOptions, startCloudDouble } from 'ascendflow/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { signObs } from '../../src/cloud/obs/sign-obs.ts'

const keys = { ak: 'AK', sk: 'the-secret', securityToken: 'the-token' }
const fresh = { ak: 'AK2', sk: 'sk2', securityToken: 'token2' }
let dir: string
const open: CloudDouble[] = []
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ascendflow-obs-'))
})
afterEach(async () => {
  for (const double of open.splice(0)) await double.close()
  await rm(dir, { recursive: true, force: true })
})

async function start(options: CloudDoubleOptions = {}): Promise<{ double: CloudDouble; client: Obs }> {
  const double = await startCloudDouble({ keys: [keys], ...options })
  open.push(double)
  return { double, client: obs(optionsFor(double)) }
}

const optionsFor = ({ obsUrl, region }: CloudDouble, credentials: object = keys) => ({
  ...{ region, credentials: { ...keys, ...credentials }, endpoints: { obs: obsUrl }, retryDelayMs: 1, retries: 3 },
})

/** Bytes that repeat nowhere. */
const bytes = (length: number) =>
  Buffer.concat(
    Array.from({ length: Math.ceil(length / 32) }, (_, i) => createHash('sha256').update(String(i)).digest()),
  ).subarray(0, length) as Buffer<ArrayBuffer>

describe('OBS', () => {
  it('is signed as its documentation says', () => {
    // The request of "Obtaining the ACL of an object"; its signature by `openssl dgst -sha1 -hmac`.
    const at = new Date('2020-07-28T06:29:47Z')
    const request = {
      method: 'GET',
      bucket: 'obs-test',
      key: 'log.conf',
      subresources: { acl: undefined },
      headers: {},
    }
    const { authorization } = signObs(request, { ak: 'AK', sk: 'SK' }, at)
    expect(authorization).toBe('OBS AK:bwFixPqtuK/jFJlEg7Gf51wKK2E=')
  })

  it('gives back what was put, whatever the key', async () => {
    const { client } = await start()
    for (const key of ['a.txt', 'a folder/文件 (1)+&=.txt', "it's!*"]) {
      await client.put({ bucket: 'bucket', key }, Buffer.from(`content of ${key}`))
      const found = await client.head({ bucket: 'bucket', key })
      const content = await client.read({ bucket: 'bucket', key }, { from: 0, to: found!.size, etag: found!.etag })
      expect(content.toString()).toBe(`content of ${key}`)
    }
    expect(await client.head({ bucket: 'bucket', key: 'no such' })).toBeUndefined()
  })

  it('takes keys anew that were refused, also where the answer cannot say why', async () => {
    const { double } = await start({ keys: [{ ...keys, expiresAt: 1 }, fresh] })
    double.putObject('bucket', 'a', Buffer.from('x'))
    const client = obs({ ...optionsFor(double), credentials: async refused => (refused ? fresh : keys) })
    expect((await client.head({ bucket: 'bucket', key: 'a' }))?.size).toBe(1)
    expect((await client.list('bucket', '').next()).value).toMatchObject({ key: 'a' })
  })

  it('lists all keys, also more than come in one answer', async () => {
    const { client, double } = await start()
    const names = Array.from({ length: 1203 }, (_, i) => `data/<${String(i).padStart(4, '0')}>&`)
    for (const name of names) double.putObject('bucket', name, Buffer.from('x'))
    double.putObject('bucket', 'other/x', Buffer.from('x'))
    const found: string[] = []
    for await (const { key } of client.list('bucket', 'data/')) found.push(key)
    expect(found).toEqual(names)
  })

  it('says what is wrong, and tells no secret', async () => {
    const { double } = await start()
    const wrong = obs({ ...optionsFor(double, { sk: 'wrong' }), retries: 0 })
    await expect(wrong.put({ bucket: 'bucket', key: 'a' }, Buffer.from('x'))).rejects.toThrow(
      /obs PUT bucket\/a: 403 SignatureDoesNotMatch/,
    )
    await expect(obs(optionsFor(double)).list('no-such', '').next()).rejects.toThrow('404 NoSuchBucket')
    await expect(obs(optionsFor(double)).head({ bucket: 'No Bucket', key: '' })).rejects.toThrow('no name of a bucket')
  })
})

describe('an upload in parts', () => {
  const to = { bucket: 'bucket', key: 'weights.bin' }
  const content = bytes(500_000)
  const options = () => ({ notes: join(dir, 'notes'), partBytes: 100_000, parallel: 2 })

  it('gives the content of the file, and leaves no note', async () => {
    const { client, double } = await start()
    await writeFile(join(dir, 'file'), content)
    await uploadFile(client, join(dir, 'file'), to, options())
    expect(double.object('bucket', 'weights.bin')?.equals(content)).toBe(true)
    expect(await readdir(join(dir, 'notes'))).toEqual([])
  })

  it('goes on after it was stopped, and sends no part twice', async () => {
    let allowed = 4
    const isPart = (method: string) => method === 'PUT'
    const { double } = await start({ fault: ({ method }) => (isPart(method) && allowed-- <= 0 ? 'reset' : undefined) })
    const once = obs({ ...optionsFor(double), retries: 0 })
    await writeFile(join(dir, 'file'), content)
    await expect(uploadFile(once, join(dir, 'file'), to, options())).rejects.toThrow('obs PUT bucket/weights.bin')
    expect(double.object('bucket', 'weights.bin')).toBeUndefined()
    allowed = 1
    await uploadFile(once, join(dir, 'file'), to, options())
    expect(double.object('bucket', 'weights.bin')?.equals(content)).toBe(true)
  })

  it('goes on with fresh keys from the function that gives them when the token expires in between', async () => {
    let parts = 0
    const current: { ak: string; sk: string; securityToken: string; expiresAt?: number } = { ...keys }
    const { double } = await start({
      keys: [current, fresh],
      fault: ({ method }) => {
        if (method === 'PUT' && ++parts === 3) current.expiresAt = 1
        return undefined
      },
    })
    await writeFile(join(dir, 'file'), content)
    let held = keys
    const credentials = async (refused?: object) => {
      if (refused) held = fresh
      return held
    }
    const client = obs({ ...optionsFor(double), credentials })
    await uploadFile(client, join(dir, 'file'), to, options())
    expect(double.object('bucket', 'weights.bin')?.equals(content)).toBe(true)
    // Five parts, and those of the two at a time that were refused.
    expect(parts).toBeLessThanOrEqual(7)
  })

  it('keeps what was received when the token expires in between', async () => {
    let parts = 0
    const current: { ak: string; sk: string; securityToken: string; expiresAt?: number } = { ...keys }
    const double = await startCloudDouble({
      keys: [current, fresh],
      fault: ({ method }) => {
        if (method === 'PUT' && ++parts === 4) current.expiresAt = 1
        return undefined
      },
    })
    open.push(double)
    await writeFile(join(dir, 'file'), content)
    const stale = obs(optionsFor(double))
    await expect(uploadFile(stale, join(dir, 'file'), to, options())).rejects.toThrow(
      /403 ExpiredToken .*pass a function as credentials/,
    )
    await uploadFile(obs(optionsFor(double, fresh)), join(dir, 'file'), to, options())
    expect(double.object('bucket', 'weights.bin')?.equals(content)).toBe(true)
    expect(parts).toBeLessThanOrEqual(7)
  })

  it('is complete when the answer that said so was lost', async () => {
    let lost = 1
    const { client, double } = await start({
      fault: ({ method, path }) =>
        method === 'POST' && path.endsWith('weights.bin') && double.requests.length > 3 && lost-- > 0
          ? 'lost-answer'
          : undefined,
    })
    await writeFile(join(dir, 'file'), content)
    await uploadFile(client, join(dir, 'file'), to, options())
    expect([lost, double.object('bucket', 'weights.bin')?.equals(content)]).toEqual([-1, true])
  })
})

describe('a download', () => {
  const content = bytes(500_000)

  it('appears whole, and goes on after it was stopped', async () => {
    let allowed = 3
    const { double } = await start({
      fault: ({ method }) => (method === 'GET' && allowed-- <= 0 ? 'reset' : undefined),
    })
    double.putObject('bucket', 'm/weights.bin', content)
    const once = obs({ ...optionsFor(double), retries: 0 })
    const object = (await once.head({ bucket: 'bucket', key: 'm/weights.bin' }))!
    const fetched = () =>
      downloadFile(once, { ...object, bucket: 'bucket' }, join(dir, 'got'), { partBytes: 100_000, parallel: 1 })
    await expect(fetched()).rejects.toThrow('obs GET bucket/m/weights.bin')
    expect((await readdir(dir)).sort()).toEqual(['got.part', 'got.part.json'])
    allowed = 2
    await fetched()
    expect((await readFile(join(dir, 'got'))).equals(content)).toBe(true)
    expect(await readdir(dir)).toEqual(['got'])
  })

  it('is refused when the object was replaced meanwhile', async () => {
    const { client, double } = await start()
    double.putObject('bucket', 'a', content)
    const object = (await client.head({ bucket: 'bucket', key: 'a' }))!
    double.putObject('bucket', 'a', bytes(400_000))
    await expect(
      downloadFile(client, { ...object, bucket: 'bucket' }, join(dir, 'got'), { partBytes: 100_000 }),
    ).rejects.toThrow('412 PreconditionFailed')
  })
})

describe('syncFromObs and syncToObs', () => {
  it('carry a folder there and back, unchanged, and once', async () => {
    const { double } = await start()
    const { syncFromObs, syncToObs } = obsSync(optionsFor(double))
    const folder = join(dir, 'model')
    await mkdir(join(folder, 'sub'), { recursive: true })
    await writeFile(join(folder, 'config.json'), '{}')
    await writeFile(join(folder, 'sub/weights.bin'), bytes(50_000))
    const store = join(dir, 'store')
    const sent = await run(syncToObs({ path: folder, to: 'obs://bucket/models/tiny' }), { store })
    expect(sent).toEqual({ url: 'obs://bucket/models/tiny', files: 2, bytes: 50_002 })
    const got = await run(syncFromObs({ from: 'obs://bucket/models/tiny/' }), { store })
    expect((await readFile(join(got.path, 'sub/weights.bin'))).equals(bytes(50_000))).toBe(true)
    const before = double.requests.length
    await run(syncFromObs({ from: 'obs://bucket/models/tiny/' }), { store })
    expect(double.requests.length).toBe(before)
    const records = (await readdir(store, { recursive: true })).filter(file => /\.jsonl?$|\.txt$/.test(file))
    for (const file of records) expect(await readFile(join(store, file), 'utf8')).not.toMatch(/the-secret|the-token/)
  })

  it('refuse a key that would be written outside the folder', async () => {
    const { double } = await start()
    double.putObject('bucket', 'data/../../evil', Buffer.from('x'))
    const { syncFromObs } = obsSync(optionsFor(double))
    await expect(run(syncFromObs({ from: 'obs://bucket/data' }), { store: join(dir, 'store') })).rejects.toThrow(
      'would be written outside',
    )
  })

  it('say that there is nothing to bring', async () => {
    const { double } = await start()
    const { syncFromObs } = obsSync(optionsFor(double))
    await expect(run(syncFromObs({ from: 'obs://bucket/nothing' }), { store: join(dir, 'store') })).rejects.toThrow(
      'obs://bucket/nothing/: there is nothing.',
    )
  })
})
