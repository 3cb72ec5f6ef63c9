import { describe, expect, it } from 'vitest'
import { credentialsFrom, metadataCredentials } from '../../src/cloud/credentials.ts'
import { answeringServer, json } from './answering-server.ts'

describe('credentials', () => {
  it("are read from the variables of the SDKs, or from Terraform's", () => {
    const sdk = { HUAWEICLOUD_SDK_AK: 'a', HUAWEICLOUD_SDK_SK: 's', HUAWEICLOUD_SDK_SECURITY_TOKEN: 't' }
    expect(credentialsFrom(sdk)).toEqual({ ak: 'a', sk: 's', securityToken: 't' })
    expect(credentialsFrom({ HW_ACCESS_KEY: 'a', HW_SECRET_KEY: 's' })).toEqual({ ak: 'a', sk: 's' })
  })

  it('that are missing are named, and those that are there are not told', () => {
    expect(() => credentialsFrom({ HW_ACCESS_KEY: 'told-to-nobody' })).toThrow(
      /^The environment has no HUAWEICLOUD_SDK_SK or HW_SECRET_KEY\. (?!.*told-to-nobody)/,
    )
  })

  it('of the server are fetched once, and anew shortly before they end', async () => {
    const keys = (access: string, minutes: number) =>
      json(200, {
        credential: {
          ...{ access, secret: 's', securitytoken: 't' },
          expires_at: new Date(Date.now() + minutes * 60_000).toISOString(),
        },
      })
    const { url, seen } = await answeringServer(keys('first', 4), keys('second', 60))
    const source = metadataCredentials({ url })
    const [one, same] = await Promise.all([source(), source()])
    expect([one.ak, same.ak]).toEqual(['first', 'first'])
    expect([(await source()).ak, (await source()).ak, seen.length]).toEqual(['second', 'second', 2])
  })

  it('of the server are fetched anew when they were refused', async () => {
    const expires_at = new Date(Date.now() + 3_600_000).toISOString()
    const keys = (access: string) => json(200, { credential: { access, secret: 's', securitytoken: 't', expires_at } })
    const { url, seen } = await answeringServer(keys('first'), keys('second'))
    const source = metadataCredentials({ url })
    const first = await source()
    const asked = await Promise.all([source(first), source(first)])
    expect([...asked, await source(), await source(first)].map(({ ak }) => ak)).toEqual(Array(4).fill('second'))
    expect(seen.length).toBe(2)
  })

  it('of the server are missed with a reason where there are none', async () => {
    const { url } = await answeringServer(json(404, {}))
    await expect(metadataCredentials({ url })()).rejects.toThrow(/status 404.*agency/)
  })
})
