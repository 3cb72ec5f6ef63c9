import type { DeviceFacts } from '../layout/device-facts.ts'
import type { FoundLayout } from '../layout/search.ts'

/** What a plan takes for granted about the devices that its jobs run on. */
export interface Premises {
  /** One NPU; `devices` has some. */
  readonly device: DeviceFacts
  /** Share of its peak that a device reaches while it computes; default what published figures come to. */
  readonly efficiency?: number | undefined
  /** What one device costs an hour, in any currency. */
  readonly pricePerDeviceHour?: number | undefined
  /** Mean hours between two failures of one device; default: it never fails. */
  readonly deviceHoursPerFailure?: number | undefined
  /** Seconds of one save, during which training waits; default 0. */
  readonly saveSeconds?: number | undefined
}

/** What a job would take on such devices. */
export interface Estimate {
  readonly devices: number
  /** Of the fullest device: bytes by what they are for, and what it has. */
  readonly memory: {
    readonly bytes: number
    readonly usableBytes: number
    readonly fits: boolean
    readonly parts: Readonly<Record<string, number>>
  }
  /** For a job that does not fit: the nearest layout that does; absent where none does. */
  readonly nearest?: FoundLayout
  readonly secondsPerIteration: number
  readonly tokensPerSecondPerDevice: number
  /** Absent while the number of iterations is not known. */
  readonly total?: {
    readonly iterations: number
    readonly hours: number
    readonly deviceHours: number
    /** In the currency of `pricePerDeviceHour`; absent without it. */
    readonly price?: number
  }
}
