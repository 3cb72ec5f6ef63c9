/** What a training's numbers come to in a few words: loss, speed, use of the devices, time left, money. */
export function trainingNote(values: Readonly<Record<string, number | undefined>>): string {
  const { iteration, trainIters, loss, tokensPerSecondPerDevice, modelFlopsUtilization, etaSeconds, price } = values
  return [
    ...(iteration === undefined ? [] : [`iteration ${iteration}/${trainIters}`]),
    ...(loss === undefined ? [] : [`loss ${loss.toFixed(3)}`]),
    ...(tokensPerSecondPerDevice === undefined
      ? []
      : [`${Math.round(tokensPerSecondPerDevice).toLocaleString('en')} tokens/s/p`]),
    ...(modelFlopsUtilization === undefined ? [] : [`MFU ${(100 * modelFlopsUtilization).toFixed(0)} %`]),
    ...(etaSeconds === undefined || etaSeconds === 0 ? [] : [`${duration(etaSeconds)} left`]),
    ...(price === undefined ? [] : [`cost ${price.toLocaleString('en', { maximumFractionDigits: 2 })}`]),
  ].join(' · ')
}

/** A time in its two largest units: `3 d 4 h`, `1 h 23 min`, `2 min 5 s`, `45 s`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds)
  const units = [
    [86_400, 'd'],
    [3_600, 'h'],
    [60, 'min'],
    [1, 's'],
  ] as const
  const first = units.findIndex(([size]) => whole >= size)
  if (first < 0) return '0 s'
  return units
    .slice(first, first + 2)
    .flatMap(([size, name], index) => {
      const above = index === 0 ? whole : whole % units[first]![0]
      const count = Math.floor(above / size)
      return count > 0 || index === 0 ? [`${count} ${name}`] : []
    })
    .join(' ')
}
