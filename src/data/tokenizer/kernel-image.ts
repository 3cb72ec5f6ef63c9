import { compileKernel } from '../kernels/load.ts'
import type { AddedToken } from './added-tokens.ts'
import type { ByteLevelTables } from './byte-level.ts'
import { characterClasses } from './character-class.ts'
import type { CharacterTables } from './character-level.ts'
import { nfcSafeBits } from './nfc-safe.ts'
import { createNormalizer, type NormalizerSpec, simpleSteps } from './normalizer-spec.ts'
import type { Template } from './post-processor.ts'
import type { PreTokenizer } from './pre-tokenizer.ts'
import type { PieceTables } from './section-encoder.ts'
import { splitterKinds } from './split-pattern.ts'
import type { Table, TableMemory } from './table-memory.ts'
import { unitsOf } from './token-table.ts'

/** A tokenizer's tables in the kernel's memory. Plain data, which threads share. */
export interface KernelImage {
  readonly module: WebAssembly.Module
  readonly memory: WebAssembly.Memory
  /** Address of the list of tables. */
  readonly header: number
  /** Whether it also does what comes before and after the encoding of a section, as lines need it. */
  readonly readsLines: boolean
}

/** What the image is made of: the parts of a `TokenizerImage`. */
export interface KernelParts {
  readonly tables: PieceTables
  /** Where the tables are, or are copied to. */
  readonly memory: TableMemory
  readonly preTokenizer: PreTokenizer
  readonly normalizer: NormalizerSpec
  readonly rawTokens: readonly AddedToken[]
  readonly normalizedTokens: readonly AddedToken[]
  readonly symbols: readonly AddedToken[]
  readonly template: Template
}

type KnownTables = Extract<ByteLevelTables, { kind: 'bytes' }> | CharacterTables

/** Puts all that the kernel looks up into its memory; undefined when the tokenizer does something that the kernel cannot do. */
export function createKernelImage(parts: KernelParts): KernelImage | undefined {
  const { tables, memory, preTokenizer } = parts
  const isKnown =
    (tables.kind === 'bytes' && preTokenizer.kind === 'byteLevel') ||
    (tables.kind === 'characters' && preTokenizer.kind === 'none' && !tables.partial && !tables.wholes)
  if (!isKnown) return undefined
  const lines = lineFields(parts)
  const fields = [...pieceFields(tables as KnownTables, preTokenizer, lines?.nfcSafe ?? 0), ...(lines?.fields ?? [])]
  const header = memory.ints(fields.length)
  fields.forEach((field, i) => {
    header[i] = typeof field === 'number' ? field : memory.place(field).byteOffset
  })
  return { module: compileKernel(), memory: memory.memory, header: header.byteOffset, readsLines: lines !== undefined }
}

/** A number, or a table whose address is meant. In the order in which kernels/assembly/tables.ts reads them. */
type Field = number | Table

function pieceFields(tables: KnownTables, preTokenizer: PreTokenizer, nfcSafe: Field): readonly Field[] {
  const { mergeSlots } = tables
  const isBytes = tables.kind === 'bytes'
  const byteLevel = preTokenizer.kind === 'byteLevel' ? preTokenizer : undefined
  const wholes = isBytes ? tables.wholes : undefined
  const characters = isBytes ? undefined : tables
  const others = [...(characters?.otherIds ?? [])].sort(([a], [b]) => a - b)
  const byteIds = tables.byteIds
  const areUnknownApart = !isBytes && byteIds !== undefined && !byteIds.includes(-1) && !tables.areBytesMerged
  return [
    ...[isBytes ? 0 : 1, byteLevel?.pattern === undefined ? 0 : splitterKinds.indexOf(byteLevel.pattern) + 1],
    ...[byteLevel?.addPrefixSpace ? 1 : 0, isBytes ? characterClasses() : 0, nfcSafe],
    ...[mergeSlots, mergeSlots.length / 4 - 1],
    ...[isBytes ? tables.adjacencyBits : tables.adjacency.bits, byteIds ?? 0],
    ...[wholes?.slots ?? 0, (wholes?.slots.length ?? 1) - 1, wholes?.starts ?? 0, wholes?.ids ?? 0],
    ...[wholes?.pool ?? 0, wholes?.longest ?? 0],
    ...[characters?.adjacency.numbers ?? 0, characters?.adjacency.table ?? 0, characters?.basicIds ?? 0],
    ...[Int32Array.from(others.flat()), others.length],
    ...[characters?.unkId ?? -1, characters?.unkToken === undefined ? 0 : 1, characters?.fuseUnk ? 1 : 0],
    areUnknownApart ? 1 : 0,
  ]
}

/** What is done to a whole text; undefined when it is more than the kernel can do. */
function lineFields(parts: KernelParts): { readonly fields: readonly Field[]; readonly nfcSafe: Field } | undefined {
  const { template, rawTokens, normalizedTokens, symbols } = parts
  const steps = simpleSteps(parts.normalizer)
  if (!steps || steps.prefix.length > 32 || template.before.length + template.after.length > 4) return undefined
  const { replace = { from: -1, to: 0 } } = steps
  const { apply } = createNormalizer(parts.normalizer)
  const raw = tokenList(rawTokens.map(({ content }) => content))
  const normalized = tokenList([
    ...normalizedTokens.map(({ content }) => apply(content)),
    ...symbols.map(({ content }) => content),
  ])
  if (raw === undefined || normalized === undefined) return undefined
  const fields = [
    ...[unitsOf(steps.prefix), steps.prefix.length, replace.from, replace.to, raw, normalized],
    ...[Int32Array.from(template.before), template.before.length],
    ...[Int32Array.from(template.after), template.after.length],
  ]
  return { fields, nfcSafe: steps.isNfc ? nfcSafeBits() : 0 }
}

/** The list that kernels/assembly/text.ts describes; 0 for no tokens, undefined when they begin in too many ways. */
function tokenList(tokens: readonly string[]): Field | undefined {
  const texts = tokens.filter(text => text !== '')
  if (texts.length === 0) return 0
  const firsts = [...new Set(texts.map(text => text.charCodeAt(0)))]
  if (firsts.length > 8) return undefined
  const head = Buffer.alloc(20 + 128)
  head.writeInt32LE(firsts.length, 0)
  for (const [i, unit] of firsts.entries()) head.writeUInt16LE(unit, 4 + 2 * i)
  for (const text of texts) {
    if (text.length === 1) head.fill(1, 20)
    else if (text.charCodeAt(1) < 0x80) head[20 + text.charCodeAt(1)] = 1
  }
  const bodies = texts.flatMap(text => {
    const length = Buffer.alloc(4)
    length.writeInt32LE(text.length)
    return [length, Buffer.from(text, 'utf16le'), Buffer.alloc(text.length % 2 === 1 ? 2 : 0)]
  })
  return Buffer.concat([head, ...bodies, Buffer.alloc(4)])
}
