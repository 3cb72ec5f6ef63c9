// What a tokenizer looks up, and how its text is cut: read once from a header that the host writes (kernel-tables.ts
// names the same fields in the same order). Addresses are bytes; 0 stands for a table that the tokenizer has not.

export let isCharacters = false
/** 0: text is one piece; 1: GPT-2's pattern; 2 and 3: GPT-4's with one and three digits. */
export let pattern = 0
export let addPrefixSpace = false
export let classes: usize = 0
export let nfcSafe: usize = 0
export let mergeSlots: usize = 0
export let mergeMask: u32 = 0
export let adjacencyBits: usize = 0
export let byteIds: usize = 0
export let wholeSlots: usize = 0
export let wholeMask: u32 = 0
export let wholeStarts: usize = 0
export let wholeIds: usize = 0
export let wholePool: usize = 0
export let wholeLongest = 0
export let numbers: usize = 0
export let meetings: usize = 0
export let basicIds: usize = 0
export let otherIds: usize = 0
export let otherCount = 0
/** -1 where the model has no such token. */
export let unkId = -1
export let hasUnk = false
export let fuseUnk = false
export let areUnknownApart = false
export let prefix: usize = 0
export let prefixCount = 0
/** -1 where nothing is replaced. */
export let replaceFrom = -1
export let replaceTo = 0
export let rawTokens: usize = 0
export let normalizedTokens: usize = 0
export let before: usize = 0
export let beforeCount = 0
export let after: usize = 0
export let afterCount = 0

export function readTables(header: usize): void {
  isCharacters = load<i32>(header, 0) != 0
  pattern = load<i32>(header, 4)
  addPrefixSpace = load<i32>(header, 8) != 0
  classes = load<u32>(header, 12)
  nfcSafe = load<u32>(header, 16)
  mergeSlots = load<u32>(header, 20)
  mergeMask = load<u32>(header, 24)
  adjacencyBits = load<u32>(header, 28)
  byteIds = load<u32>(header, 32)
  wholeSlots = load<u32>(header, 36)
  wholeMask = load<u32>(header, 40)
  wholeStarts = load<u32>(header, 44)
  wholeIds = load<u32>(header, 48)
  wholePool = load<u32>(header, 52)
  wholeLongest = load<i32>(header, 56)
  numbers = load<u32>(header, 60)
  meetings = load<u32>(header, 64)
  basicIds = load<u32>(header, 68)
  otherIds = load<u32>(header, 72)
  otherCount = load<i32>(header, 76)
  unkId = load<i32>(header, 80)
  hasUnk = load<i32>(header, 84) != 0
  fuseUnk = load<i32>(header, 88) != 0
  areUnknownApart = load<i32>(header, 92) != 0
  prefix = load<u32>(header, 96)
  prefixCount = load<i32>(header, 100)
  replaceFrom = load<i32>(header, 104)
  replaceTo = load<i32>(header, 108)
  rawTokens = load<u32>(header, 112)
  normalizedTokens = load<u32>(header, 116)
  before = load<u32>(header, 120)
  beforeCount = load<i32>(header, 124)
  after = load<u32>(header, 128)
  afterCount = load<i32>(header, 132)
}
