/** An answer that says no, in the dialect of the service whose code it has. */
export class Refusal extends Error {
  readonly status: number
  readonly serviceCode: string

  constructor(status: number, serviceCode: string, message: string) {
    super(message)
    this.status = status
    this.serviceCode = serviceCode
  }

  /** As it goes over the wire. */
  get body() {
    if (this.serviceCode.startsWith('SFS.')) return { errCode: this.serviceCode, errMsg: this.message }
    return { error_code: this.serviceCode, error_msg: this.message }
  }
}
