/** What an order costs. */
import type { Problem } from './error.ts';
import { type Item, MAX_PROBLEMS } from './order.ts';
import { MAX_AMOUNT, type Money } from './payment.ts';

/** What one piece of each sku costs. */
export type UnitPrices = ReadonlyMap<string, Money>;

/** `unit_amounts`: what one piece of each item costs, in the order of the items; absent without a price list. */
export interface Price extends Money {
  unit_amounts?: string[];
}

/** What one piece costs without a price list. */
const ONE_UNIT: Money = { amount: '1.00', currency: 'USD' };

/** The exact price of an order; undefined if it has none, for the `problems` with its items. `list`: undefined without a price list. */
export function priceOf(
  items: readonly Item[],
  list: UnitPrices | undefined,
): { price: Price | undefined; problems: Problem[] } {
  const problems: Problem[] = [];
  const unit_amounts: string[] = [];
  let sum = 0n;
  let currency: string | undefined;
  for (const [at, { sku, qty }] of items.entries()) {
    const unit = list ? list.get(sku) : ONE_UNIT;
    currency ??= unit?.currency;
    if (unit && unit.currency === currency) {
      sum += BigInt(qty) * hundredths(unit.amount);
      unit_amounts.push(unit.amount);
    } else {
      const message = unit ? `costs ${unit.currency}, other items ${currency}` : 'is not in the price list';
      problems.push({ path: `items.${at}.sku`, message });
    }
  }
  if (sum > hundredths(MAX_AMOUNT)) problems.push({ path: 'items', message: `must cost at most ${MAX_AMOUNT}` });
  if (problems.length > 0 || currency === undefined)
    return { price: undefined, problems: problems.slice(0, MAX_PROBLEMS) };
  return { price: { amount: decimal(sum), currency, ...(list && { unit_amounts }) }, problems };
}

/** An amount has two decimals. */
const hundredths = (amount: string): bigint => BigInt(amount.replace('.', ''));
const decimal = (sum: bigint): string => `${sum / 100n}.${`${sum % 100n}`.padStart(2, '0')}`;
