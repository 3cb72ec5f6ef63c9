const entities: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

/**
 * What stands in the elements `name` of an answer of OBS, whose elements of one name never hold each other. Entities are
 * resolved unless what stands there is markup itself.
 */
export function textsOf(xml: string, name: string, { isMarkup = false } = {}): readonly string[] {
  const elements = xml.matchAll(new RegExp(`<${name}(?:\\s[^>]*)?>([\\s\\S]*?)</${name}>`, 'g'))
  return [...elements].map(([, text = '']) => (isMarkup ? text : resolve(text)))
}

/** The first of them. */
export function textOf(xml: string, name: string): string | undefined {
  return textsOf(xml, name)[0]
}

function resolve(text: string): string {
  return text.replaceAll(/&(#x?[0-9a-f]+|\w+);/gi, (whole, entity: string) => {
    if (!entity.startsWith('#')) return entities[entity] ?? whole
    const code = /^#x/i.test(entity) ? Number.parseInt(entity.slice(2), 16) : Number(entity.slice(1))
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole
  })
}
