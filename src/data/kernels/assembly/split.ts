// The known split patterns, as hand-written machines over UTF-16 units. As src/data/tokenizer/split-pattern.ts.
import { isHigh, pairAt, unitAt } from './characters'
import { classes, pattern } from './tables'

const letter: u32 = 1
const number: u32 = 2
const space: u32 = 4
const newline: u32 = 8
const surrogate: u32 = 16
const apostrophe: u32 = 0x27

/** End of the piece that starts at `start`; `end` is the end of the text. No lone surrogates. */
// @ts-ignore: decorator
@inline
export function pieceEnd(start: usize, end: usize): usize {
  return pattern == 0 ? end : pattern == 1 ? gpt2End(start, end) : gpt4End(start, end, pattern == 2 ? 1 : 3)
}

// @ts-ignore: decorator
@inline
function unitClass(at: usize): u32 {
  return <u32>load<u8>(classes + unitAt(at))
}

// @ts-ignore: decorator
@inline
function classAt(at: usize): u32 {
  const kind = unitClass(at)
  return kind == surrogate ? <u32>load<u8>(classes + pairAt(at)) : kind
}

// @ts-ignore: decorator
@inline
function runEnd(at: usize, end: usize, wanted: u32): usize {
  while (at < end) {
    const kind = unitClass(at)
    if (kind == wanted) at += 2
    else if (kind == surrogate && <u32>load<u8>(classes + pairAt(at)) == wanted) at += 4
    else break
  }
  return at
}

function gpt4End(start: usize, end: usize, mostDigits: i32): usize {
  const first = unitAt(start)
  const kind = classAt(start)
  if (kind == letter) return runEnd(start, end, letter)
  if (first == apostrophe) {
    const length = contraction(start, end, true)
    if (length > 0) return start + length
  }
  const next = start + (isHigh(first) ? 4 : 2)
  if ((kind & (number | newline)) == 0 && next < end && classAt(next) == letter) return runEnd(next, end, letter)
  if (kind == number) {
    let at = next
    for (let digits = 1; digits < mostDigits && at < end && classAt(at) == number; digits++) {
      at += unitClass(at) == surrogate ? 4 : 2
    }
    return at
  }
  if (kind == 0 || (first == 0x20 && next < end && classAt(next) == 0)) {
    let at = runEnd(kind == 0 ? start : next, end, 0)
    while (at < end && (unitClass(at) & newline) != 0) at += 2
    return at
  }
  let at = start
  let afterNewline: usize = 0
  for (; at < end; at += 2) {
    const held = unitClass(at)
    if ((held & space) == 0) break
    if ((held & newline) != 0) afterNewline = at + 2
  }
  if (afterNewline != 0) return afterNewline
  return at == end || at == start + 2 ? at : at - 2
}

function gpt2End(start: usize, end: usize): usize {
  const first = unitAt(start)
  if (first == apostrophe) {
    const length = contraction(start, end, false)
    if (length > 0) return start + length
  }
  const body = first == 0x20 && start + 2 < end ? start + 2 : start
  const kind = classAt(body)
  if ((kind & space) == 0) return runEnd(body, end, kind)
  let at = start
  while (at < end && (unitClass(at) & space) != 0) at += 2
  return at == end || at == start + 2 ? at : at - 2
}

// @ts-ignore: decorator
@inline
function fold(unit: u32, ignoreCase: bool): u32 {
  return ignoreCase && unit >= 0x41 && unit <= 0x5a ? unit + 32 : unit
}

/** Bytes of `'s 't 're 've 'm 'll 'd` at `start`, or 0. Ignoring case, the long s (U+017F) is an s as well. */
function contraction(start: usize, end: usize, ignoreCase: bool): usize {
  if (start + 2 >= end) return 0
  const first = fold(unitAt(start + 2), ignoreCase)
  if (first == 0x73 || first == 0x74 || first == 0x6d || first == 0x64) return 4
  if (ignoreCase && first == 0x17f) return 4
  if (start + 4 >= end) return 0
  const second = fold(unitAt(start + 4), ignoreCase)
  if ((first == 0x72 || first == 0x76) && second == 0x65) return 6
  return first == 0x6c && second == 0x6c ? 6 : 0
}
