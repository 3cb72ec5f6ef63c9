import { InputError } from '../errors.ts'

/** Services of Huawei Cloud that are spoken to, by the first part of their host names. */
export type CloudService = 'modelarts' | 'sfs-turbo' | 'obs' | 'swr-api' | 'vpc' | 'iam'

/** Addresses that are not the usual ones: of a private cloud, a proxy, a test's server. */
export type Endpoints = Partial<Readonly<Record<CloudService, string>>>

/**
 * Address of a service in a region: `https://modelarts.cn-southwest-2.myhuaweicloud.com`; IAM is one for all regions.
 * Source: Huawei's Terraform provider, `huaweicloud/config/endpoints.go`.
 * @throws InputError for a region that cannot be part of a host name, and for an endpoint that is no http(s) address.
 */
export function endpointOf(service: CloudService, region: string, endpoints: Endpoints = {}): URL {
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(region))
    throw new InputError(`region: '${region}' is no name of a region.`, {
      field: 'region',
      hint: "They look like 'cn-southwest-2'.",
    })
  const given = endpoints[service]
  if (given === undefined)
    return new URL(`https://${service === 'iam' ? service : `${service}.${region}`}.myhuaweicloud.com`)
  const url = URL.canParse(given) ? new URL(given) : undefined
  if (url && /^https?:$/.test(url.protocol) && url.pathname === '/' && !url.search && !url.username) return url
  throw new InputError(`endpoints.${service}: '${given}' is not an address like 'https://${service}.example.com'.`, {
    field: 'endpoints',
  })
}
