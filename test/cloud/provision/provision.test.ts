import { networks, obsTargets, type ProvisionOptions, provision, shares } from 'ascendflow/modelarts'
import type { CloudDoubleOptions } from 'ascendflow/testing'
import { describe, expect, it } from 'vitest'
import { shareRequest } from '../account-requests.ts'
import { doubleAccount, soon } from '../double-account.ts'
import { existing, whole, wholeAccount } from './provisioned-account.ts'

const start = (options: CloudDoubleOptions = {}) => doubleAccount({ buckets: [], ...options })

describe('provision', () => {
  it('shows what would be made and what that costs, and changes nothing', async () => {
    const { double } = await start()
    const prices = { shareGibMonth: 0.5, notebookHour: 12 }
    const shown = await provision({ ...wholeAccount(double), prices })
    expect(
      String(shown)
        .split('\n')
        .map(line => line.replaceAll(/(?<=\S) {2,}/g, '  ')),
    ).toEqual([
      'exists  authorization  all-users',
      'create  bucket  standard-llama2-13b  costs what is stored in it',
      'create  folder  standard-llama2-13b/training_data/',
      'create  folder  standard-llama2-13b/model/',
      'exists  pool  pool-double  4 × modelarts.bm.8',
      'create  share  sfs-train  6144 GiB, 500MB/s for each TiB, in vpc-1',
      'create  link  sfs-train → pool-double  to the network network-double',
      'create  target  sfs-train/training_data  stands for obs://standard-llama2-13b',
      'create  image  swr.cn-southwest-2.myhuaweicloud.com/my-org/pytorch_2_1_ascend:train-v3',
      'create  notebook  prep-01  modelarts.pool.visual.8xlarge, stops by itself after 4 h',
      'To keep what would be made costs:',
      '  share sfs-train: 6144 GiB, 3,072.00 each month',
      '  notebook prep-01: while it runs, 12.00 each hour',
    ])
    expect(existing(double)).toEqual(['network network-double'])
    expect(double.requests.filter(request => !/^(GET|HEAD)/.test(request))).toEqual([])
  })

  it('invents no price', async () => {
    const { double } = await start()
    const shown = await provision(wholeAccount(double))
    expect(String(shown)).toContain('share sfs-train: 6144 GiB, your price for it, each month')
    expect(shown.items.flatMap(({ cost }) => cost ?? []).every(({ price }) => price === undefined)).toBe(true)
  })

  it('makes everything when applied, gives what jobs are told of it, and makes nothing again', async () => {
    const { double } = await start()
    const lines: string[] = []
    const made = await (await provision(wholeAccount(double))).apply({ onProgress: line => lines.push(line) })
    expect(made).toMatchObject({
      ...{ poolId: 'pool-double', nfs: '192.168.20.7:/', bucketUrl: 'obs://standard-llama2-13b/' },
      ...{ image: 'my-org/pytorch_2_1_ascend:train-v3' },
    })
    expect(existing(double)).toEqual(whole)
    expect(double.object('standard-llama2-13b', 'training_data/')?.length).toBe(0)
    expect(lines).toContain('share sfs-train: being created')
    expect(lines).toContain('notebook prep-01: made')

    const again = await provision(wholeAccount(double))
    expect([...new Set(again.items.map(({ state }) => state))]).toEqual(['exists'])
    expect(String(again)).toContain('Nothing would be made.')
    const before = double.requests.length
    expect(await again.apply()).toEqual(made)
    expect(double.requests.slice(before).filter(request => /^(POST|PUT|PATCH|DELETE)/.test(request))).toEqual([])
  })

  it('uses what is there, by name, and leaves other links of the network alone', async () => {
    const { double, transport } = await start({ buckets: ['standard-llama2-13b'] })
    const client = shares(transport)
    const [theirs, other] = [await client.create(shareRequest), await client.create({ ...shareRequest, name: 'other' })]
    await networks(transport).link('network-double', { shareId: other.id, name: 'other' })
    const { notebook: _, ...options } = wholeAccount(double)
    const made = await (await provision({ ...options, share: { name: 'sfs-train' } })).apply()
    expect(made.shareId).toBe(theirs.id)
    expect(existing(double).filter(line => /^(share|link)/.test(line))).toEqual([
      ...['link other', 'link sfs-train', 'share other', 'share sfs-train'],
    ])
  })

  it('lets ModelArts act for users when told to', async () => {
    const { double } = await start({ isAuthorized: false })
    const authorization = { userId: 'all-users', agencySuffix: 'train' }
    const shown = await provision({ ...wholeAccount(double), authorization })
    expect(String(shown)).toMatch(/create {2}authorization {2}all-users .*ma_agency_train/)
    await shown.apply()
    expect(String(await provision(wholeAccount(double)))).toMatch(/exists {2}authorization/)
  })

  it('goes on when these keys may not look at authorizations, and says so', async () => {
    const fault = ({ path }: { path: string }) => (path.endsWith('/authorizations') ? 'forbidden' : undefined)
    const { double } = await start({ fault })
    const shown = await provision(wholeAccount(double))
    expect(String(shown)).toMatch(/^unknown {2}authorization .*these keys may not look/)
    await shown.apply()
    expect(existing(double)).toEqual(whole)
  })

  it.each<[string, CloudDoubleOptions, Partial<ProvisionOptions>, RegExp]>([
    ['no authorization', { isAuthorized: false }, {}, /authorization ModelArts: nobody lets ModelArts read OBS/],
    ['a bucket of another account', { foreignBuckets: ['standard-llama2-13b'] }, {}, /another account has it/],
    ['a pool that is not there', {}, { poolId: 'my pool'.replace(' ', '-') }, /pool my-pool: there is no such pool/],
    [
      'a pool that does not run',
      { pools: [{ name: 'pool-double', nodes: 1, devicesPerNode: 8, phase: 'Abnormal' }] },
      ...([{}, /pool pool-double: it is Abnormal, and must be Running/] as const),
    ],
    [
      'a pool that is not for training',
      { pools: [{ name: 'pool-double', nodes: 1, devicesPerNode: 8, trains: false }] },
      ...([{}, /it is not for training: add Train/] as const),
    ],
    [
      'a share that nobody told how to make',
      {},
      { share: { name: 'sfs-train' } },
      /give its size, bandwidth and place/,
    ],
    [
      'a flavor that is sold out',
      {},
      { notebook: { name: 'prep-01', flavor: 'modelarts.pool.visual.16xlarge' } },
      /16xlarge is not offered; offered are .*8xlarge/,
    ],
    [
      'the bucket of a target that is not there',
      {},
      { targets: [{ folder: 'a', bucket: 'no-such' }] },
      /bucket no-such: it is not there/,
    ],
  ])('makes nothing with %s, and says what to do', async (_, account, options, message) => {
    const { double } = await start(account)
    const shown = await provision({ ...wholeAccount(double), ...options })
    expect(String(shown)).toMatch(/^blocked/m)
    await expect(shown.apply()).rejects.toThrow(message)
    expect(double.requests.filter(request => !/^(GET|HEAD)/.test(request))).toEqual([])
  })

  it.each<[string, Partial<typeof shareRequest>, RegExp]>([
    ['in another VPC', { vpcId: 'vpc-2' }, /it is in VPC vpc-2, and vpc-1 is wanted/],
    ['that is smaller', { size: 3686 }, /it has 3686 GiB, and 6144 are wanted: enlarge it/],
    ['of another bandwidth', { bandwidth: '125M' }, /it is of 125M, and 500M is wanted/],
  ])('does not take a share of the same name %s', async (_, other, message) => {
    const { double, transport } = await start()
    await shares(transport).create({ ...shareRequest, ...other })
    await expect((await provision(wholeAccount(double))).apply()).rejects.toThrow(message)
    expect(double.buckets).toEqual([])
  })

  it('does not take a folder of the share that stands for another bucket', async () => {
    const { double, transport } = await start({ buckets: ['theirs'] })
    const { id } = await shares(transport).create(shareRequest)
    const obs = { bucket: 'theirs', endpoint: 'obs.cn-southwest-2.myhuaweicloud.com' }
    await obsTargets(transport, id).create({ file_system_path: 'training_data', obs })
    await expect((await provision(wholeAccount(double))).apply()).rejects.toThrow(
      'target sfs-train/training_data: it stands for obs://theirs, and obs://standard-llama2-13b is wanted',
    )
    expect(double.buckets).toEqual(['theirs'])
  })

  it('takes a larger share of the same name', async () => {
    const { double, transport } = await start()
    const { id } = await shares(transport).create({ ...shareRequest, size: 8601 })
    expect((await (await provision(wholeAccount(double))).apply()).shareId).toBe(id)
  })

  it.each<[string, string, RegExp]>([
    ['share', '303', /share .* its creation failed/],
    ['link', 'Abnormal', /link .* abnormal.*VPC/],
    ['target', 'MISCONFIGURED', /target .* MISCONFIGURED.*policy/],
    ['image', 'CREATE_FAILED', /image .* CREATE_FAILED/],
    ['notebook', 'CREATE_FAILED', /notebook .* CREATE_FAILED \(No resources\.\)/],
  ])('stops when the %s becomes %s, and is blocked by it afterwards', async (kind, state, message) => {
    const { double } = await start({ endsAs: thing => (thing.kind === kind ? state : undefined) })
    await expect((await provision(wholeAccount(double))).apply()).rejects.toThrow(message)
    const again = await provision(wholeAccount(double))
    expect(again.items.filter(item => item.state === 'blocked').map(item => item.kind)).toEqual([kind])
    expect(existing(double).length).toBe(new Set(existing(double)).size)
  })

  it('says what to do when a quota is used up', async () => {
    const { double } = await start({ quotas: { share: 0 } })
    await expect((await provision(wholeAccount(double))).apply()).rejects.toThrow(/0010 .*larger quota/)
  })

  it('makes nothing that was not shown', async () => {
    const { double, transport } = await start()
    const { id } = await shares(transport).create(shareRequest)
    const shown = await provision(wholeAccount(double))
    await shares(transport).remove(id)
    await shares(transport).waitGone(id, soon)
    await expect(shown.apply()).rejects.toThrow('since it was shown, more is missing: share sfs-train')
    expect(double.buckets).toEqual([])
  })

  it('stops soon after it is told to', async () => {
    const { double } = await start({ pollsBeforeReady: 1_000_000 })
    const controller = new AbortController()
    const shown = await provision({ ...wholeAccount(double), pollMs: 60_000, patienceMs: 600_000 })
    const applying = shown.apply({
      signal: controller.signal,
      onProgress: line => line.startsWith('share') && controller.abort(new Error('enough')),
    })
    await expect(applying).rejects.toThrow()
    expect(existing(double)).toContain('share sfs-train')
  })

  it.each<[string, Partial<ProvisionOptions>, RegExp]>([
    ['a bucket with capitals', { bucket: 'Standard' }, /no name of a bucket|bucket/],
    ['a folder that begins with a slash', { folders: ['/data'] }, /folders/],
    ["the record's own folder", { folders: ['.ascendflow/'] }, /folders/],
    ['a size that there is not', { share: { ...shareRequest, size: 6000 } }, /6000 GiB is no size/],
    ['a misspelt share', { share: { name: 'sfs-train', sise: 6144 } as never }, /share/],
    ['two targets of one folder', { targets: [{ folder: 'a' }, { folder: 'a' }] }, /the same folder/],
    ['an image without its registry', { image: 'my-org/train:1' }, /an address as/],
    ['a notebook for a week', { notebook: { name: 'n', flavor: 'f', hours: 168 } }, /hours/],
    ['no image', { image: undefined as never }, /image/],
    ['a price below nothing', { prices: { shareGibMonth: -1 } }, /prices/],
  ])('refuses %s before anything is asked', async (_, wrong, message) => {
    const { double } = await start()
    await expect(provision({ ...wholeAccount(double), ...wrong })).rejects.toThrow(message)
    expect(double.requests).toEqual([])
  })
})
