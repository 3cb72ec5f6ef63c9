import stringWidth from 'string-width'

/**
 * Breaks lines that are wider than `columns`, between words or between Chinese characters, which are two columns wide.
 * What a line is broken into keeps its indentation; a word that is wider than a line is broken anywhere.
 */
export function wrapWidth(text: string, columns: number): string {
  return text
    .split('\n')
    .flatMap(line => wrapLine(line, columns))
    .join('\n')
}

/** Words with the blanks after them, wide characters one by one. */
const pieces = /[^\s\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60]+\s*|./gsu

function wrapLine(line: string, columns: number): readonly string[] {
  if (stringWidth(line) <= columns) return [line]
  const indent = /^\s*/.exec(line)![0].slice(0, Math.floor(columns / 2))
  const lines: string[] = []
  let current = ''
  const push = (next: string) => {
    if (current.trim() !== '') lines.push(current.trimEnd())
    current = indent + next
  }
  for (const [piece] of line.slice(indent.length).matchAll(pieces)) {
    if (current === '') current = indent
    const fits = stringWidth((current + piece).trimEnd()) <= columns
    if (fits) current += piece
    else if (stringWidth(indent + piece.trimEnd()) <= columns) push(piece)
    else
      for (const character of piece) {
        if (stringWidth(current + character) > columns) push('')
        current += character
      }
  }
  push('')
  return lines
}
