/** An answer that says no, in ModelArts' dialect. */
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
    return { error_code: this.serviceCode, error_msg: this.message }
  }
}
