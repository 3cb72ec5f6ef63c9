import { InputError, UnsupportedError } from '../errors.ts'
import { isFloatDtype } from '../formats/float-dtype.ts'
import type { Dtype, TensorSource } from '../formats/tensor.ts'
import type { WeightPlan } from './weight-plan.ts'

/** True when a source offers every tensor that `plan` reads. */
export function hasParts(source: TensorSource, plan: WeightPlan): boolean {
  return plan.parts.every(part => source.tensors.has(part.name))
}

/**
 * The type in which a weight is stored: `dtype` when given, else that of its tensors in `source`.
 * @throws InputError when a tensor is missing, has another shape than planned, or its fellows have another type.
 */
export function storedDtype(source: TensorSource, plan: WeightPlan, dtype?: Dtype): Dtype {
  const types = plan.parts.map(({ name, shape }) => {
    const info = source.tensors.get(name)
    if (info === undefined) throw new InputError(`The source has no tensor '${name}'.`)
    if (info.shape.length !== shape.length || info.shape.some((size, axis) => size !== shape[axis])) {
      throw new InputError(`Tensor '${name}' has shape [${info.shape}]; the architecture asks for [${shape}].`)
    }
    if (!isFloatDtype(info.dtype)) {
      throw new UnsupportedError(`Tensor '${name}' has type ${info.dtype}; weights in BF16, F16 and F32 are converted.`)
    }
    return info.dtype
  })
  const other = types.findIndex(type => type !== types[0])
  if (dtype === undefined && other >= 0) {
    throw new InputError(
      `'${plan.parts[0]!.name}' is ${types[0]} and '${plan.parts[other]!.name}' is ${types[other]}, but they become one tensor.`,
      {
        hint: 'Give the dtype to store.',
      },
    )
  }
  return dtype ?? types[0]!
}
