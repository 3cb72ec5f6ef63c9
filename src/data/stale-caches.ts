import { readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * Removes the index caches that Megatron keeps beside datasets at these prefixes. It keys them by path and sample
 * counts, not by content, and would train on the new files in the order of the old ones.
 *
 * Source: Megatron-LM, gpt_dataset.py (`PREFIX/cache/GPTDataset_indices`); ModelLink, decoder_packed_mtf_dataset.py
 * (`PREFIX_train_indexmap_….npy`).
 */
export async function removeStaleCaches(prefixes: readonly string[]): Promise<void> {
  for (const prefix of prefixes) {
    await rm(join(prefix, 'cache', 'GPTDataset_indices'), { recursive: true, force: true })
    const names = await readdir(dirname(prefix))
    const starts = ['train', 'valid', 'test'].map(split => `${basename(prefix)}_${split}_indexmap_`)
    for (const name of names) {
      const isCache = name.endsWith('.npy') && starts.some(start => name.startsWith(start))
      if (isCache) await rm(join(dirname(prefix), name), { force: true })
    }
  }
}
