import { images, type NotebookRequest, notebooks, shares } from 'ascendflow/modelarts'
import type { CloudDoubleOptions } from 'ascendflow/testing'
import { describe, expect, it } from 'vitest'
import { imageRequest, shareRequest } from '../account-requests.ts'
import { doubleAccount, loses, soon } from '../double-account.ts'

async function withImage(options: CloudDoubleOptions = {}) {
  const { double, transport } = await doubleAccount(options)
  const share = await shares(transport).create(shareRequest)
  const image = await images(transport).register(imageRequest)
  const request: NotebookRequest = {
    ...{ name: 'prep-01', image_id: image.id, flavor: 'modelarts.pool.visual.8xlarge', pool_id: 'pool-double' },
    ...{ feature: 'NOTEBOOK', duration: 14_400_000 },
    volume: {
      ...{ category: 'EFS', ownership: 'DEDICATED', uri: '192.168.20.7:/', id: share.id },
      mount_path: '/home/ma-user/work/',
    },
  }
  return { double, client: notebooks(transport), images: images(transport), request }
}

describe('notebooks', () => {
  it('are created, stopped, started, saved as an image and removed', async () => {
    const { client, request, double } = await withImage()
    const { id } = await client.create(request)
    await client.waitFor(id, 'RUNNING', soon)
    const saved = { name: 'prepared', namespace: 'my-org', tag: 'v4' }
    const image = await client.saveImage(id, saved, soon)
    expect((await client.saveImage(id, saved, soon)).id).toBe(image.id)
    await client.stop(id)
    await client.waitFor(id, 'STOPPED', soon)
    await client.stop(id)
    await client.start(id, 4)
    await client.start(id)
    await client.waitFor(id, 'RUNNING', soon)
    await client.remove(id)
    expect(await client.waitFor(id, 'gone', soon)).toBeUndefined()
    await client.remove(id)
    expect(double.things.filter(({ kind }) => kind === 'notebook')).toEqual([])
  })

  it('exist once after a lost answer, and are found by their whole name', async () => {
    const { client, request, double } = await withImage({ fault: loses(/POST .*\/notebooks$/, 2) })
    await client.create({ ...request, name: 'prep-011' }, soon)
    const { id } = await client.create(request, soon)
    expect((await client.find('prep-01'))?.id).toBe(id)
    expect(double.things.filter(({ kind }) => kind === 'notebook').map(({ name }) => name)).toEqual([
      'prep-011',
      'prep-01',
    ])
  })

  it.each(['CREATE_FAILED', 'ERROR', 'FROZEN'])('are not waited for once they are %s', async state => {
    const { client, request } = await withImage({ endsAs: ({ kind }) => (kind === 'notebook' ? state : undefined) })
    const { id } = await client.create(request)
    await expect(client.waitFor(id, 'RUNNING', soon)).rejects.toThrow(`it is ${state}`)
  })

  it('say what to do when the quota is used up', async () => {
    const { client, request } = await withImage({ quotas: { notebook: 0 } })
    await expect(client.create(request)).rejects.toThrow(/0118 .*larger quota/)
  })

  it('are refused for half an hour', async () => {
    const { client, request } = await withImage()
    await expect(client.create({ ...request, duration: 1_800_000 })).rejects.toThrow('an hour at least')
  })
})

describe('images', () => {
  it('are registered once after a lost answer, waited for, and unregistered', async () => {
    const { double, transport } = await doubleAccount({ fault: loses(/POST .*\/images$/, 2), refusesSameName: false })
    const client = images(transport)
    const { id } = await client.register(imageRequest, soon)
    expect((await client.register(imageRequest, soon)).id).toBe(id)
    expect((await client.waitActive(id, soon)).swr_path).toBe(imageRequest.swr_path)
    expect(double.things.filter(({ kind }) => kind === 'image').length).toBe(1)
    await client.unregister(id)
    await client.unregister(id)
    expect(await client.find(imageRequest.swr_path)).toBeUndefined()
  })

  it('are not waited for once they failed', async () => {
    const { transport } = await doubleAccount({ endsAs: () => 'CREATE_FAILED' })
    const { id } = await images(transport).register(imageRequest)
    await expect(images(transport).waitActive(id, soon)).rejects.toThrow('it is CREATE_FAILED')
  })

  it('are refused without their registry', async () => {
    const { transport } = await doubleAccount()
    const wrong = { ...imageRequest, swr_path: 'my-org/pytorch_2_1_ascend:train-v3' }
    await expect(images(transport).register(wrong)).rejects.toThrow('an address as')
  })
})
