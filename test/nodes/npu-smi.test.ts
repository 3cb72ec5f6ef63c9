import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseNpuSmi } from '../../src/nodes/npu-smi.ts'

const recorded = (name: string) => readFile(join(import.meta.dirname, 'npu-smi', name), 'utf8')

describe('parseNpuSmi', () => {
  it('reads the table of an 8-card 910B node: health, memory, processes', async () => {
    const [idle, busy, ...others] = parseNpuSmi(await recorded('910b.txt'))
    expect(idle).toEqual({
      ...{ npu: 0, chip: 0, name: '910B2', health: 'OK', powerW: 88.4, temperatureC: 38, aiCorePercent: 0 },
      ...{ hbmUsedMb: 3402, hbmTotalMb: 65536, processes: [], isFree: true },
    })
    expect(busy).toEqual({
      ...{ npu: 5, chip: 0, name: '910B2', health: 'Warning', powerW: 95.1, temperatureC: 51, aiCorePercent: 97 },
      ...{ hbmUsedMb: 60211, hbmTotalMb: 65536, isFree: false },
      processes: [{ pid: 41027, name: 'python', memoryMb: 56888 }],
    })
    expect(others).toEqual([])
  })

  it('reads two chips an NPU, with physical numbers and without the power of the second', async () => {
    const devices = parseNpuSmi(await recorded('a3.txt'))
    expect(
      devices.map(({ npu, chip, phyId, powerW, hbmUsedMb, isFree }) => [npu, chip, phyId, powerW, hbmUsedMb, isFree]),
    ).toEqual([
      [0, 0, 0, 171.3, 3111, true],
      [0, 1, 1, undefined, 2870, true],
    ])
  })

  it('reads the wide layout, whose processes have a number in their container', async () => {
    const [device] = parseNpuSmi(await recorded('wide.txt'))
    expect(device).toMatchObject({ npu: 2, chip: 0, isFree: false })
    expect(device!.processes).toEqual([{ pid: 77310, name: 'torchrun', memoryMb: 40961 }])
  })

  it.each([
    'dcmi model initialized failed, because the device is used. ret is -8020',
    'sh: 1: npu-smi: not found',
    '',
    '| a | b |\n|||\n| NPU Name | Health |',
  ])('finds no device in %j', text => {
    expect(parseNpuSmi(text)).toEqual([])
  })
})
