import { describeImage, type StoredImage } from './image-routes.ts'
import { type DoublePool, fields } from './job-rules.ts'
import { Refusal } from './refusal.ts'
import { bodyOf, type DoubleThing, pageOf, type ThingRoute, type Things } from './things.ts'

export type StoredNotebook = Readonly<Record<string, unknown>>

export interface NotebookRoutesOptions {
  readonly notebooks: Things<StoredNotebook>
  readonly images: Things<StoredImage>
  readonly pools: readonly DoublePool[]
  hasShare(id: string): boolean
}

const bad = (what: string): never => {
  throw new Refusal(400, 'ModelArts.2788', what)
}

/** Notebooks, below `/v1/{project}/`. */
export function notebookRoutes({ notebooks, images, pools, hasShare }: NotebookRoutesOptions): ThingRoute {
  const describe = (notebook: DoubleThing<StoredNotebook>) => {
    const status = notebooks.stateOf(notebook, { making: 'CREATING', ready: 'RUNNING' })
    return {
      ...{ id: notebook.id, name: notebook.name, flavor: notebook.asked.flavor, status },
      fail_reason: status.endsWith('FAILED') ? 'No resources.' : null,
      url: `https://authoring.example.com/${notebook.id}/lab?token=notebook-token`,
    }
  }

  function create(body: unknown) {
    const asked = fields(body, 'notebook', [
      ...['name', 'image_id', 'flavor', 'pool_id', 'feature', 'duration', 'workspace_id', 'description'],
      ...['volume', 'endpoints'],
    ])
    const volume = fields(asked.volume, 'volume', ['category', 'ownership', 'uri', 'id', 'mount_path'])
    if (volume.category !== 'EFS' || volume.ownership !== 'DEDICATED') bad('volume')
    if (!/^\d+\.\d+\.\d+\.\d+:\//.test(String(volume.uri)) || !hasShare(String(volume.id))) bad('volume.uri')
    if (!images.all.some(({ id }) => id === asked.image_id)) bad('image_id')
    if (!pools.some(({ name }) => name === asked.pool_id)) throw new Refusal(404, 'ModelArts.2890', 'pool_id')
    const duration = Number(asked.duration ?? 3_600_000)
    if (!(duration >= 3_600_000 && duration <= 259_200_000)) bad('duration')
    if (!notebooks.hasRoom) throw new Refusal(400, 'ModelArts.0118', 'The quota of notebooks is used up.')
    return { status: 200, body: describe(notebooks.add(String(asked.name), asked)) }
  }

  return ([resource, id, action], request) => {
    const { method, url } = request
    if (resource !== 'notebooks') return undefined
    if (id === 'flavors' && method === 'GET') {
      const sizes = ['x', '2x', '4x', '8x', '16x']
      const flavors = sizes.map(size => ({ id: `modelarts.pool.visual.${size}large`, sold_out: size === '16x' }))
      return { status: 200, body: { current: 0, data: flavors, pages: 1, size: flavors.length, total: flavors.length } }
    }
    if (id === undefined && method === 'GET') {
      // Names are found by their parts.
      const found = notebooks.all.filter(({ name }) => name.includes(url.searchParams.get('name') ?? ''))
      const data = pageOf(found, url, 50).map(describe)
      return { status: 200, body: { current: 0, data, pages: 1, size: data.length, total: found.length } }
    }
    if (id === undefined) return method === 'POST' ? create(bodyOf(request)) : undefined
    const notebook = notebooks.get(id)
    if (!notebook) throw new Refusal(400, 'ModelArts.6404', 'The notebook does not exist.')
    if (action === undefined && method === 'GET') return { status: 200, body: describe(notebook) }
    if (action === undefined && method === 'DELETE') {
      notebooks.remove(notebook, 'DELETING')
      return { status: 200, body: describe(notebook) }
    }
    const { status } = describe(notebook)
    if (action === 'stop' && method === 'POST') {
      if (status !== 'RUNNING') throw new Refusal(400, 'ModelArts.2788', `The notebook is ${status}.`)
      notebook.state = 'STOPPED'
      return { status: 200, body: describe(notebook) }
    }
    if (action === 'start' && method === 'POST') {
      if (status !== 'STOPPED') throw new Refusal(400, 'ModelArts.2788', `The notebook is ${status}.`)
      delete notebook.state
      notebook.looks = 0
      return { status: 200, body: describe(notebook) }
    }
    if (action === 'create-image' && method === 'POST') {
      if (status !== 'RUNNING') throw new Refusal(400, 'ModelArts.2883', 'Only a running notebook is saved.')
      const { name, namespace, tag } = fields(bodyOf(request), 'image', ['name', 'namespace', 'tag', 'description'])
      const image = images.add(`swr.cn-southwest-2.myhuaweicloud.com/${namespace}/${name}:${tag}`, {})
      return { status: 200, body: describeImage(images, image) }
    }
    return undefined
  }
}
