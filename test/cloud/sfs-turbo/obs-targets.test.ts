import { dataTasks, type ObsTargetRequest, obsTargets, shares } from 'ascendflow/modelarts'
import type { CloudDoubleOptions } from 'ascendflow/testing'
import { describe, expect, it } from 'vitest'
import { shareRequest } from '../account-requests.ts'
import { doubleAccount, loses, soon } from '../double-account.ts'

const request: ObsTargetRequest = {
  file_system_path: 'training_data',
  obs: {
    ...{ bucket: 'bucket', endpoint: 'obs.cn-southwest-2.myhuaweicloud.com' },
    policy: { auto_export_policy: { events: ['NEW', 'CHANGED'] } },
    attributes: { file_mode: 644, dir_mode: 755, uid: 1000, gid: 1000 },
  },
}

async function withShare(options: CloudDoubleOptions = {}) {
  const { double, transport } = await doubleAccount(options)
  const { id } = await shares(transport).create(shareRequest)
  return { double, targets: obsTargets(transport, id), tasks: dataTasks(transport, id) }
}

describe('OBS targets', () => {
  it('are created, waited for and removed', async () => {
    const { targets } = await withShare()
    const { target_id: id } = await targets.create(request)
    expect((await targets.waitAvailable(id, soon)).obs).toMatchObject({ bucket: 'bucket' })
    await targets.remove(id)
    await targets.waitGone(id, soon)
    await targets.remove(id)
    expect(await targets.list()).toEqual([])
  })

  it('exist once after a lost answer', async () => {
    const { double, targets } = await withShare({ fault: loses(/POST .*\/targets$/, 3) })
    await targets.create(request, soon)
    await targets.create(request, soon)
    expect(double.things.filter(({ kind }) => kind === 'target').length).toBe(1)
  })

  it('say what to do when the bucket does not let SFS Turbo in', async () => {
    const { targets } = await withShare({ buckets: [] })
    const { target_id: id } = await targets.create(request)
    await expect(targets.waitAvailable(id, soon)).rejects.toThrow(
      /MISCONFIGURED \(The bucket refused\.\)\. Let SFS Turbo read and write the bucket/,
    )
  })

  it('are not waited for once they failed', async () => {
    const { targets } = await withShare({ endsAs: ({ kind }) => (kind === 'target' ? 'FAILED' : undefined) })
    const { target_id: id } = await targets.create(request)
    await expect(targets.waitAvailable(id, soon)).rejects.toThrow('it is FAILED')
  })

  it.each([
    ['a path of two folders', { file_system_path: 'a/b' }, /one folder/],
    ['the folder above', { file_system_path: '..' }, /one folder/],
    [
      'a mode that is not octal',
      { obs: { ...request.obs, attributes: { ...request.obs.attributes!, file_mode: 648 } } },
      /0 to 7/,
    ],
  ])('are refused for %s', async (_, wrong, message) => {
    const { targets } = await withShare()
    await expect(targets.create({ ...request, ...wrong })).rejects.toThrow(message)
  })
})

describe('data tasks', () => {
  it.each(['import', 'import_metadata', 'preload', 'export'] as const)('%s to the end', async type => {
    const { targets, tasks } = await withShare({ pollsBeforeReady: 1 })
    await targets.create(request)
    const id = await tasks.start({ type, target: 'training_data', prefix: 'alpaca/' })
    expect(await tasks.waitDone(id, soon)).toMatchObject({ type, src_prefix: 'alpaca/', status: 'SUCCESS' })
    await tasks.remove(id)
    await expect(tasks.waitDone(id, soon)).rejects.toThrow('it was deleted')
    expect(await tasks.get(id)).toBeUndefined()
  })

  it('are started once when the answer is lost, and again when asked again', async () => {
    const { targets, tasks } = await withShare({ fault: loses(/POST .*\/task$/, 1) })
    await targets.create(request)
    const first = await tasks.start({ type: 'preload', target: 'training_data' }, soon)
    const second = await tasks.start({ type: 'preload', target: 'training_data' }, soon)
    expect((await tasks.list()).map(({ task_id }) => task_id)).toEqual([first, second])
  })

  it('tell why they failed', async () => {
    const { targets, tasks } = await withShare({ endsAs: ({ kind }) => (kind === 'task' ? 'FAIL' : undefined) })
    await targets.create(request)
    const id = await tasks.start({ type: 'import', target: 'training_data' })
    await expect(tasks.waitDone(id, soon)).rejects.toThrow('it failed: No such object')
  })

  it.each(['.hidden/', 'a:b', 'end.'])('are refused for the prefix %s', async prefix => {
    const { tasks } = await withShare()
    await expect(tasks.start({ type: 'import', target: 'training_data', prefix })).rejects.toThrow('prefix')
  })
})
