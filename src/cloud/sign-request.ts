import type { Credentials } from './credentials.ts'

/** A request before it is signed. */
export interface UnsignedRequest {
  readonly method: string
  /** With its query; path segments must need no encoding. */
  readonly url: URL
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  /** Sent as its JSON. */
  readonly body?: unknown
}

/**
 * The headers of `request` with date, token and `Authorization: SDK-HMAC-SHA256 …`, by the signer of Huawei's core.
 *
 * All headers are signed; a body is signed as `JSON.stringify` writes it, unless its hash is given in
 * `x-sdk-content-sha256`. `at` is the moment of signing, which the service accepts for 15 minutes.
 */
export async function signRequest(
  request: UnsignedRequest,
  credentials: Credentials,
  at: Date,
): Promise<Record<string, string>> {
  // Its own HTTP layer has no timeouts, repeats POST and prints secrets; loaded here, it is not in the way of others.
  const [{ AKSKSigner }, { BasicCredentials }] = await Promise.all([
    import('@huaweicloud/huaweicloud-sdk-core/auth/AKSKSigner.js'),
    import('@huaweicloud/huaweicloud-sdk-core/auth/BasicCredentials.js'),
  ])
  const { method, url, headers, body } = request
  const { ak, sk, securityToken } = credentials
  const { 'x-sdk-content-sha256': contentHash, ...others } = headers
  const date = at.toISOString().replaceAll(/[-:]|\.\d+/g, '')
  const queryParams = Object.fromEntries(
    [...url.searchParams.keys()].map(name => [name, url.searchParams.getAll(name)]),
  )
  const signed: Record<string, string> = AKSKSigner.sign(
    {
      ...{ method, endpoint: url.origin + url.pathname, queryParams, data: body },
      headers: {
        ...others,
        ...(securityToken ? { 'x-security-token': securityToken } : {}),
        // These two are looked up under just these names.
        ...(contentHash ? { 'X-Sdk-Content-Sha256': contentHash } : {}),
        'X-Sdk-Date': date,
      },
    },
    new BasicCredentials().withAk(ak).withSk(sk),
  )
  return Object.fromEntries(Object.entries(signed).map(([name, value]) => [name.toLowerCase(), value]))
}
