import { authorizations } from 'ascendflow/modelarts'
import { describe, expect, it } from 'vitest'
import { doubleAccount, loses } from '../double-account.ts'

describe('authorizations', () => {
  it('are set once, also when answers are lost', async () => {
    const { transport } = await doubleAccount({
      isAuthorized: false,
      fault: loses(/POST .*\/(agency|authorizations)$/, 2),
    })
    const client = authorizations(transport)
    expect(await client.list()).toEqual([])
    const agency = await client.createAgency('train')
    expect(agency).toBe('ma_agency_train')
    await client.set({ user_id: 'all-users', type: 'agency', content: agency })
    await client.set({ user_id: 'all-users', type: 'agency', content: agency })
    expect(await client.list()).toEqual([{ user_id: 'all-users', type: 'agency' }])
  })

  it('hand over no access keys', async () => {
    const { transport } = await doubleAccount()
    const keys = { user_id: 'u', type: 'credential', content: 'AK', secret_key: 'SK' } as never
    await expect(authorizations(transport).set(keys)).rejects.toThrow(/^(?!.*SK).*type/s)
  })
})
