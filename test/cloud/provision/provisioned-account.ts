import type { ProvisionOptions } from 'ascendflow/modelarts'
import type { CloudDouble } from 'ascendflow/testing'
import { imageRequest, shareRequest } from '../account-requests.ts'

export const secrets = { sk: 'sk-nobody-may-see-this', securityToken: 'token-nobody-may-see-this' }
export const keys = { ak: 'AKPROVISION', ...secrets }

/** Everything that the guide has, on a double, with quick waits. */
export function wholeAccount({ url, obsUrl, region, credentials }: CloudDouble): ProvisionOptions {
  return {
    ...{ region, credentials, endpoints: { modelarts: url, iam: url, 'sfs-turbo': url, obs: obsUrl } },
    ...{ bucket: 'standard-llama2-13b', folders: ['training_data/', 'model'], poolId: 'pool-double' },
    ...{ share: shareRequest, image: imageRequest.swr_path },
    targets: [{ folder: 'training_data', autoExport: ['NEW', 'CHANGED'] }],
    notebook: { name: 'prep-01', flavor: 'modelarts.pool.visual.8xlarge', folder: 'team-a', keyPair: 'KeyPair-1' },
    ...{ pollMs: 1, patienceMs: 5_000, retryDelayMs: 1, retries: 3 },
  }
}

/** What exists on a double, as `kind name`, sorted; two of the same are two lines. */
export function existing({ things, buckets }: CloudDouble): readonly string[] {
  return [...things.map(({ kind, name }) => `${kind} ${name}`), ...buckets.map(name => `bucket ${name}`)].sort()
}

/** All that a whole account has, on a double without a bucket of its own. */
export const whole = [
  ...['bucket standard-llama2-13b', `image ${imageRequest.swr_path}`, 'link sfs-train', 'network network-double'],
  ...['notebook prep-01', 'share sfs-train', 'target training_data'],
]
