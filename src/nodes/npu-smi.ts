/** One chip as `npu-smi info` shows it; a number that it does not tell (`-`, `NA`) is absent. */
export interface NpuDevice {
  readonly npu: number
  readonly chip: number
  /** Number of `/dev/davinciN`, where the table tells it (two chips an NPU). */
  readonly phyId?: number
  readonly name: string
  /** `OK`, `Warning`, `Alarm`, `Critical`, `Unknown`. */
  readonly health: string
  readonly powerW?: number
  readonly temperatureC?: number
  readonly aiCorePercent?: number
  readonly hbmUsedMb?: number
  readonly hbmTotalMb?: number
  readonly processes: readonly NpuProcess[]
  /** Healthy, without a process, and with no more memory taken than the driver takes by itself. */
  readonly isFree: boolean
}

export interface NpuProcess {
  readonly pid: number
  readonly name: string
  readonly memoryMb?: number
}

/** The driver alone takes 2.8 to 3.5 of 64 GB. */
const idleShare = 0.08

/**
 * Reads the tables of `npu-smi info`, whose columns differ between versions and chips: by the names in their headers,
 * never by position. Gives no device for a text without the table.
 */
export function parseNpuSmi(text: string): readonly NpuDevice[] {
  const rows = text
    .split('\n')
    .filter(line => line.startsWith('|'))
    .map(line => line.split('|').slice(1, -1))
  const devices: Row[] = []
  const processes: Row[] = []
  let header: 'device' | 'chip' | 'process' | undefined
  let [deviceHead, chipHead, processHead]: [string[], string[], string[]] = [[], [], []]
  for (const cells of rows) {
    const line = cells.join(' ')
    if (/\bHealth\b/.test(line)) [header, deviceHead] = ['device', cells]
    else if (/\bBus-Id\b/.test(line)) [header, chipHead] = ['chip', cells]
    else if (/\bProcess id\b/.test(line)) [header, processHead] = ['process', cells]
    else if (header === 'process') {
      if (cells.length >= processHead.length) processes.push(readRow(processHead, cells))
    } else if (header === 'chip') {
      // Two rows a chip; the second has its bus address.
      if (!/[0-9A-F]{4}:[0-9A-F]{2}:|\bNA\b/i.test(cells[1] ?? '')) devices.push(readRow(deviceHead, cells))
      else Object.assign(devices.at(-1) ?? {}, readRow(chipHead, cells))
    }
  }
  return devices.filter(row => row.Chip !== undefined).map(row => deviceOf(row, processes))
}

type Row = Record<string, string>

/** Values by the names in the header's cells; the last name of a cell takes what is left of it. */
function readRow(head: readonly string[], cells: readonly string[]): Row {
  const row: Row = {}
  for (const [i, cell] of cells.entries()) {
    const title = (head[i] ?? '').trim()
    const value = cell.trim().replaceAll(/\s*\/\s*/g, '/')
    // `Process id` is one name, `NPU Chip` are two: names of several words stand alone in their cells.
    const names = /^Process /.test(title) ? [title] : title.split(/\s+/)
    const values = value.split(/\s+/)
    for (const [at, name] of names.entries())
      row[name] = at === names.length - 1 ? values.slice(at).join(' ') : (values[at] ?? '')
  }
  return row
}

function deviceOf(row: Row, all: readonly Row[]): NpuDevice {
  const [npu, chip] = [Number(row.NPU), Number(row.Chip)]
  const processes = all
    .filter(other => Number(other.NPU) === npu && Number(other.Chip) === chip)
    .map(other => ({
      pid: Number(other['Process id']),
      name: other['Process name'] ?? '',
      ...optional('memoryMb', other['Process memory(MB)']),
    }))
  const [used, total] = (row['HBM-Usage(MB)'] ?? row['Memory-Usage(MB)'] ?? '').split('/')
  const health = row.Health ?? 'Unknown'
  const isIdle = !(Number(used) > Number(total) * idleShare)
  return {
    ...{ npu, chip, name: row.Name ?? '', health },
    ...optional('phyId', row['Phy-ID']),
    ...optional('powerW', row['Power(W)']),
    ...optional('temperatureC', row['Temp(C)']),
    ...optional('aiCorePercent', row['AICore(%)']),
    ...optional('hbmUsedMb', used),
    ...optional('hbmTotalMb', total),
    processes,
    isFree: health === 'OK' && processes.length === 0 && isIdle,
  }
}

function optional<K extends string>(name: K, text: string | undefined): { readonly [name in K]?: number } {
  const value = text === undefined || text.trim() === '' ? Number.NaN : Number(text)
  return (Number.isNaN(value) ? {} : { [name]: value }) as { readonly [name in K]?: number }
}
