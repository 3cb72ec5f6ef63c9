import stringWidth from 'string-width'
import type { InspectedFile, Inspection } from './inspection.ts'
import { printable } from './printable.ts'

/** A checkpoint as text: facts, files, and a table of tensors in which the layers share a line. */
export function describeInspection(inspection: Inspection): string {
  const { files, kind, path, architecture: model } = inspection
  const facts: [string, string][] = [[titles[kind], path]]
  if (inspection.kind === 'megatron') {
    const { iteration, iterations, tracker, layout, tp, pp, vpp, layers, optimizer, isLora } = inspection
    const others = iterations.filter(it => it !== iteration)
    const also = others.length > 0 ? ` · also ${others.slice(-5).join(', ')}` : ''
    facts.push(
      ['iteration', `${iteration} · tracker ${tracker ?? 'missing'}${also}`],
      ['layout', `${layout} · tp ${tp} · pp ${pp}${vpp > 1 ? ` · vpp ${vpp}` : ''}${isLora ? ' · LoRA adapters' : ''}`],
      ['layers', layers.map(chunks => chunks.join(' + ')).join(' | ')],
      ['optimizer', optimizer],
    )
  }
  if (model !== undefined) {
    const { family, numLayers, hiddenSize, numAttentionHeads, numQueryGroups, vocabSize } = model
    const padded = inspection.kind === 'megatron' ? inspection.paddedVocabSize : undefined
    facts.push([
      'model',
      `${family} · ${numLayers} layers × ${hiddenSize} · ${numAttentionHeads} heads in ${numQueryGroups} groups · vocabulary ${vocabSize}${padded === undefined || padded === vocabSize ? '' : ` padded to ${padded}`}`,
    ])
  } else if (inspection.unknown !== undefined) facts.push(['model', `unknown: ${inspection.unknown}`])
  const tensors = files.flatMap(file => file.tensors)
  const types = [...new Set(tensors.map(({ dtype }) => dtype))].join(', ')
  const others = files.reduce((sum, { otherTensors }) => sum + otherTensors, 0)
  facts.push([
    'weights',
    `${tensors.length} tensors · ${types} · ${bytesText(inspection.tensorBytes)} in ${files.length} ${files.length === 1 ? 'file' : 'files'}${others > 0 ? ` · ${others} other tensors` : ''}`,
  ])
  const perFile = files.map(({ file, byteLength, tensors }) => [
    file,
    `${tensors.length} tensors`,
    bytesText(byteLength),
  ])
  return [table(facts), table(perFile), table(tensorRows(files))].join('\n\n')
}

const titles: Readonly<Record<Inspection['kind'], string>> = {
  hf: 'Hugging Face model',
  megatron: 'Megatron checkpoint',
  safetensors: 'safetensors file',
  torch: 'torch.save file',
}

// Tensors of one name but for the layer's number, of one type and shape, share a line.
function tensorRows(files: readonly InspectedFile[]): readonly (readonly string[])[] {
  const groups = new Map<string, { name: string; layers: Set<number>; dtype: string; shape: string; count: number }>()
  for (const { name, dtype, shape } of files.flatMap(file => file.tensors)) {
    const layer = /(?<=\b(?:layers|h|blocks)\.)\d+(?=\.)/.exec(name)
    const pattern =
      layer === null ? name : `${name.slice(0, layer.index)}{i}${name.slice(layer.index + layer[0].length)}`
    const key = `${pattern} ${dtype} ${shape}`
    const group = groups.get(key) ?? {
      name: pattern,
      layers: new Set(),
      dtype,
      shape: `[${shape.join(', ')}]`,
      count: 0,
    }
    if (layer !== null) group.layers.add(Number(layer[0]))
    group.count++
    groups.set(key, group)
  }
  const rows = [...groups.values()].map(({ name, layers, dtype, shape, count }) => [
    name.replace('{i}', numbers([...layers])),
    ...[dtype, shape, count > 1 ? `× ${count}` : ''],
  ])
  return rows.length > maxRows ? [...rows.slice(0, maxRows), [`… ${rows.length - maxRows} more`]] : rows
}

const maxRows = 200

// 0, 1, 2, 5 → {0..2,5}
function numbers(values: number[]): string {
  const runs: [number, number][] = []
  for (const value of values.sort((a, b) => a - b)) {
    const last = runs.at(-1)
    if (last !== undefined && last[1] + 1 === value) last[1] = value
    else runs.push([value, value])
  }
  const text = runs.map(([from, to]) => (from === to ? `${from}` : `${from}..${to}`)).join(',')
  return values.length === 1 ? text : `{${text}}`
}

/** Columns as wide as their widest cell; a Chinese character takes two. */
function table(cells: readonly (readonly string[])[]): string {
  const rows = cells.map(row => row.map(printable))
  const widths: number[] = []
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, stringWidth(cell))
  const pad = (cell: string, i: number): string => cell + ' '.repeat(widths[i]! - stringWidth(cell))
  return rows.map(row => row.map(pad).join('  ').trimEnd()).join('\n')
}

function bytesText(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB']
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3))
  return power === 0 ? `${bytes} B` : `${(bytes / 1000 ** power).toFixed(1)} ${units[power]}`
}
