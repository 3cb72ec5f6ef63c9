import { networks, resourcePools, shares } from 'ascendflow/modelarts'
import type { CloudDoubleOptions } from 'ascendflow/testing'
import { describe, expect, it } from 'vitest'
import { shareRequest } from '../account-requests.ts'
import { doubleAccount, loses, soon, transportTo } from '../double-account.ts'

const mine = { name: 'net-train', cidr: '192.168.144.0/20' }

async function withShares(options: CloudDoubleOptions = {}) {
  const { double, transport } = await doubleAccount(options)
  const client = shares(transport)
  const [first, second] = [await client.create(shareRequest), await client.create({ ...shareRequest, name: 'sfs-2' })]
  const links = [first, second].map(({ id }, at) => ({ shareId: id, name: `sfs-${at}` }))
  return { double, client: networks(transport), first: links[0]!, second: links[1]! }
}

describe('networks', () => {
  it('are created once, also when the answer is lost, and waited for', async () => {
    const { double, transport } = await doubleAccount({ fault: loses(/POST .*\/networks$/, 2) })
    const client = networks(transport)
    const created = await client.create(mine, soon)
    expect((await client.create(mine, soon)).metadata.name).toBe(created.metadata.name)
    expect((await client.waitActive(created.metadata.name, soon)).spec?.cidr).toBe(mine.cidr)
    expect(double.things.filter(({ name }) => name === 'net-train').length).toBe(1)
  })

  it('link shares without dropping those that others linked', async () => {
    const { client, first, second } = await withShares()
    await client.link('network-double', first)
    await client.link('network-double', second)
    await client.link('network-double', first)
    expect(await client.waitLinked('network-double', second, soon)).toMatch(/^192\.168\.20\.\d+$/)
    const linked = async () => {
      const list = (await client.get('network-double'))?.spec?.connection?.sfsTurboConnectionList ?? []
      return list.map(({ sfsId, subnetId }) => [sfsId, subnetId])
    }
    const subnet = 'subnet-of-network-double'
    expect(await linked()).toEqual([
      [first.shareId, subnet],
      [second.shareId, subnet],
    ])
    await client.unlink('network-double', first.shareId)
    expect(await linked()).toEqual([[second.shareId, subnet]])
    await expect(client.waitLinked('network-double', first, soon)).rejects.toThrow('it was taken out')
  })

  it('say what to look at when a share cannot be reached', async () => {
    const { client, first } = await withShares({ endsAs: ({ kind }) => (kind === 'link' ? 'Abnormal' : undefined) })
    await client.link('network-double', first)
    await expect(client.waitLinked('network-double', first, soon)).rejects.toThrow(/abnormal.*VPC.*20048/)
  })

  it('are not waited for once they are abnormal', async () => {
    const { transport } = await doubleAccount({ endsAs: ({ kind }) => (kind === 'network' ? 'Abnormal' : undefined) })
    const created = await networks(transport).create(mine)
    await expect(networks(transport).waitActive(created.metadata.name, soon)).rejects.toThrow('it is abnormal')
  })

  it.each([
    ['a name of three letters', { ...mine, name: 'net' }, /4 to 32/],
    ['too many addresses', { ...mine, cidr: '192.168.0.0/12' }, /192\.168/],
    ['addresses of another range', { ...mine, cidr: '10.0.0.0/16' }, /192\.168/],
  ])('are refused for %s', async (_, request, message) => {
    const { transport } = await doubleAccount()
    await expect(networks(transport).create(request)).rejects.toThrow(message)
  })

  it('are not taken for missing when the project is wrong', async () => {
    const { double } = await doubleAccount()
    const client = networks(transportTo(double, { projectId: 'f'.repeat(32) }))
    await expect(client.get('network-double')).rejects.toThrow(/2786/)
  })
})

describe('resource pools', () => {
  it('are found by their id, and name their network', async () => {
    const { transport } = await doubleAccount()
    const client = resourcePools(transport)
    expect((await client.list()).map(({ metadata }) => metadata.name)).toEqual(['pool-double'])
    expect((await client.get('pool-double'))?.spec?.network?.name).toBe('network-double')
    expect(await client.get('pool-other')).toBeUndefined()
  })
})
