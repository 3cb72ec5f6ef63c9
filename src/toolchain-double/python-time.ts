/** Now, as the toolchain's programs write it: `YYYY-MM-DD HH:MM:SS` with `between` for the blank, and thousandths. */
export function pythonTime(between: ' ' | '-' | '_' = ' ', fraction?: 'ms'): string {
  const now = new Date()
  const two = (value: number) => String(value).padStart(2, '0')
  const date = [now.getFullYear(), two(now.getMonth() + 1), two(now.getDate())].join('-')
  const time = [now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join(':')
  const ms = fraction === undefined ? '' : `.${String(now.getMilliseconds()).padStart(3, '0')}.000`
  return `${date}${between}${time}${ms}`
}
