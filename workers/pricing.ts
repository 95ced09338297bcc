import type { Item } from '@trellis/contracts/order';
import type { Money } from '@trellis/contracts/payment';

/** What an order costs: one unit of currency for each piece. A price list would replace this function and nothing else. */
export function priceOf(items: readonly Item[]): Money {
  const pieces = items.reduce((sum, item) => sum + item.qty, 0);
  return { amount: `${pieces}.00`, currency: 'USD' };
}
