import type { Problem } from '@trellis/contracts/error';
import type { Item } from '@trellis/contracts/order';
import { priceOf } from '@trellis/contracts/pricing';
import type { PriceStore } from '@trellis/drizzle/prices';
import { fallbackOnDatabaseError } from './errors.ts';
import { createExpiringMap } from './expiring-map.ts';

/** How long a shop counts as one without a price list: its starts ask SQL no more often. The worker, which prices the order, asks each time. */
const NO_LIST_FOR_MS = 5_000;
/** Shops of which that is remembered. */
const MAX_SHOPS = 1_000;

/** What keeps the items of an order of this shop from having a price. While the database fails nothing does: the worker checks it again. */
export type PriceCheck = (shop: string, items: Item[]) => Promise<Problem[]>;

export function createPriceCheck(prices: PriceStore): PriceCheck {
  const withoutList = createExpiringMap<true>(NO_LIST_FOR_MS, MAX_SHOPS);
  return async (shop, items) => {
    if (withoutList.get(shop)) return [];
    const skus = items.map(({ sku }) => sku);
    const list = await fallbackOnDatabaseError(prices.of(shop, skus), 'down' as const);
    if (list === 'down') return [];
    if (!list) withoutList.set(shop, true);
    return priceOf(items, list).problems;
  };
}
