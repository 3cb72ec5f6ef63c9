import type { ImageRequest, ShareRequest } from 'ascendflow/modelarts'

/** What the account tests ask for. */
export const shareRequest: ShareRequest = {
  ...{ name: 'sfs-train', size: 6144, bandwidth: '500M', availabilityZone: 'cn-southwest-2a' },
  ...{ vpcId: 'vpc-1', subnetId: 'subnet-1', securityGroupId: 'group-1' },
}

export const imageRequest: ImageRequest = {
  ...{ swr_path: 'swr.cn-southwest-2.myhuaweicloud.com/my-org/pytorch_2_1_ascend:train-v3', arch: 'AARCH64' },
  ...{ resource_category: ['ASCEND'], services: ['NOTEBOOK', 'SSH'] },
}
