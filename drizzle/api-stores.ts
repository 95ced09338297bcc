import { createAdmissionStore } from './capacity.ts';
import type { Database } from './database.ts';
import { createOrderKeyStore } from './order-keys.ts';
import { createOrderViews } from './order-views.ts';
import { createPriceStore } from './prices.ts';

/** The stores that the API uses, in a file of their own so that the edge bundle contains no store that it doesn't use. */
export function openApiStores(db: Database) {
  return {
    views: createOrderViews(db),
    capacity: createAdmissionStore(db),
    orderKeys: createOrderKeyStore(db),
    prices: createPriceStore(db),
    pingDatabase: db.ping,
  };
}
