import { PlanError } from '../../errors.ts'
import { type Clients, clientsOf, surveyAccount } from './account-survey.ts'
import { carryOut, type Provisioned } from './carry-out.ts'
import { itemTable, priceText } from './item-table.ts'
import type { CarryOutOptions } from './making.ts'
import { type ProvisionItem, provisionItems } from './provision-items.ts'
import { checkProvisionOptions, type ProvisionOptions } from './provision-options.ts'

/** What an account has of what is wanted, and what would be made. `String(provision)` is a table for people. */
export interface Provision {
  readonly items: readonly ProvisionItem[]
  toString(): string
  /**
   * Makes what is missing, and gives what `modelArts()` is to be told. Safe to repeat, after a crash as well.
   * @throws PlanError when something is in the way, or the account has changed so that more would be made than was
   * shown; ServiceError; the signal's reason.
   */
  apply(options?: CarryOutOptions): Promise<Provisioned>
}

/**
 * Looks whether an account has what trainings on ModelArts need: a bucket with folders, an SFS Turbo share, its link to
 * the pool's network, folders of it that stand for buckets, an image, a notebook. Changes nothing until it is applied.
 *
 * What is there already is used as it is, by its exact name; what differs from what is wanted is in the way, and named.
 * What is made is recorded in the bucket, so that `destroyProvisioned` takes away that and nothing else. One at a time
 * may provision a bucket: the services cannot keep two apart.
 * @throws InputError for options that cannot be; ServiceError; the signal's reason.
 */
export async function provision(options: ProvisionOptions, signal?: AbortSignal): Promise<Provision> {
  checkProvisionOptions(options)
  const clients = clientsOf(options)
  const items = provisionItems(options, await surveyAccount(clients, options, signal))
  return {
    items,
    toString: () => [itemTable(items), ...costLines(items)].join('\n'),
    apply: how => apply({ clients, options, shown: items }, how),
  }
}

async function apply(
  { clients, options, shown }: { clients: Clients; options: ProvisionOptions; shown: readonly ProvisionItem[] },
  how: CarryOutOptions = {},
): Promise<Provisioned> {
  const survey = await surveyAccount(clients, options, how.signal)
  const items = provisionItems(options, survey)
  const named = (item: ProvisionItem) => `${item.kind} ${item.name}`
  const obstacles = items.filter(({ state }) => state === 'blocked')
  if (obstacles.length > 0)
    throw new PlanError(
      `Nothing was made; in the way: ${obstacles.map(item => `${named(item)}: ${item.detail}`).join('; ')}.`,
    )
  const agreed = new Set(shown.filter(({ state }) => state === 'create').map(named))
  const more = items.filter(item => item.state === 'create' && !agreed.has(named(item)))
  if (more.length > 0)
    throw new PlanError(`Nothing was made; since it was shown, more is missing: ${more.map(named).join(', ')}.`, {
      hint: 'Call provision() again, and look at what it shows.',
    })
  return carryOut({ clients, options, survey, items }, how)
}

function costLines(items: readonly ProvisionItem[]): string[] {
  const made = items.filter(({ state }) => state === 'create')
  if (made.length === 0) return ['Nothing would be made.']
  const lines = made.flatMap(({ kind, name, cost }) => {
    if (!cost) return []
    const said =
      cost.price === undefined ? `your price for it, each ${cost.per}` : `${priceText(cost.price)} each ${cost.per}`
    return [`  ${kind} ${name}: ${cost.amount}, ${said}`]
  })
  return lines.length > 0 ? ['To keep what would be made costs:', ...lines] : []
}
