import { join, resolve } from 'node:path'
import { InputError } from '../../errors.ts'
import type { Word } from '../../flow/launch.ts'
import { innermostMount } from '../innermost-mount.ts'
import type { KubernetesMount } from './options.ts'

/**
 * Volumes for the mounts, and the way from a path of this machine to the one that pods see. A mount in which no word
 * of the command is written is mounted read-only.
 */
export function mountsOf(argv: readonly Word[], mounts: readonly KubernetesMount[]) {
  const written = argv.flatMap(word =>
    typeof word === 'object' && 'write' in word ? [mountOf(word.write, mounts).mount] : [],
  )
  return {
    mapPath: (path: string): string => {
      const { mount, within } = mountOf(path, mounts)
      return join(mount.mountPath ?? resolve(mount.path), within)
    },
    volumes: mounts.map((mount, i) => ({ name: `mount-${i}`, ...sourceOf(mount) })),
    volumeMounts: mounts.map((mount, i) => ({
      ...{ name: `mount-${i}`, mountPath: mount.mountPath ?? resolve(mount.path) },
      ...('subPath' in mount && mount.subPath !== undefined ? { subPath: mount.subPath } : {}),
      ...(written.includes(mount) ? {} : { readOnly: true }),
    })),
  }
}

function mountOf(path: string, mounts: readonly KubernetesMount[]) {
  const found = innermostMount(path, mounts, mount => mount.path)
  if (found) return found
  const known = mounts.map(mount => mount.path).join(', ')
  throw new InputError(
    `kubernetes: pods cannot see ${resolve(path)}: ${known ? `mounted are ${known}` : 'nothing is mounted'}.`,
    {
      hint: 'Add a mount for a folder that holds it: { path, claim }, { path, hostPath } or { path, nfsServer, nfsPath }.',
    },
  )
}

function sourceOf(mount: KubernetesMount) {
  if ('claim' in mount) return { persistentVolumeClaim: { claimName: mount.claim } }
  if ('hostPath' in mount) return { hostPath: { path: mount.hostPath, type: 'Directory' } }
  return { nfs: { server: mount.nfsServer, path: mount.nfsPath } }
}
