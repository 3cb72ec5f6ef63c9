import { fields } from './job-rules.ts'
import { Refusal } from './refusal.ts'
import { bodyOf, type DoubleThing, pageOf, type ThingRoute, type Things } from './things.ts'

/** What an image was asked to be; its name is its address in SWR. */
export type StoredImage = Readonly<Record<string, unknown>>

export function describeImage(images: Things<StoredImage>, image: DoubleThing<StoredImage>) {
  const status = images.stateOf(image, { making: 'CREATING', ready: 'ACTIVE' })
  return { id: image.id, name: 'image', swr_path: image.name, type: 'DEDICATED', status, status_message: null }
}

/** Registered images, below `/v1/{project}/`. */
export function imageRoutes(
  images: Things<StoredImage>,
  { refusesSameName }: { refusesSameName: boolean },
): ThingRoute {
  return ([resource, id], request) => {
    const { method, url } = request
    if (resource !== 'images') return undefined
    if (id === undefined && method === 'GET') {
      const data = pageOf(images.all, url).map(image => describeImage(images, image))
      return { status: 200, body: { current: 0, data, pages: 1, size: data.length, total: images.all.length } }
    }
    if (id === undefined && method === 'POST') {
      const asked = fields(bodyOf(request), 'image', [
        ...[
          'swr_path',
          'arch',
          'resource_category',
          'services',
          'workspace_id',
          'description',
          'flavor_type',
          'origin',
        ],
      ])
      const path = String(asked.swr_path)
      if (!/^swr\.[\w-]+\.myhuaweicloud\.com\/.+\/.+:.+$/.test(path))
        throw new Refusal(400, 'ModelArts.2810', 'swr_path')
      if (refusesSameName && images.all.some(({ name }) => name === path))
        throw new Refusal(400, 'ModelArts.2788', 'The image is registered already.')
      return { status: 200, body: describeImage(images, images.add(path, asked)) }
    }
    const image = images.get(id)
    if (!image) throw new Refusal(404, 'ModelArts.2788', 'The image does not exist.')
    if (method === 'GET') return { status: 200, body: describeImage(images, image) }
    if (method !== 'DELETE') return undefined
    images.remove(image)
    return { status: 200, body: {} }
  }
}
