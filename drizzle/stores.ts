import { openApiStores } from './api-stores.ts';
import { createAttemptStore } from './attempts.ts';
import { createCapacityStore } from './capacity.ts';
import type { Database } from './database.ts';
import { createErasureStore } from './erasure.ts';
import { createOpenOrders } from './open-orders.ts';
import { createOrderStore } from './orders.ts';
import { createPaymentStore } from './payments.ts';
import { createShipmentStore } from './shipments.ts';

/** All stores of the product on one database. Nothing is connected until a store is used. */
export function openStores(db: Database) {
  return {
    ...openApiStores(db),
    attempts: createAttemptStore(db),
    capacity: createCapacityStore(db),
    erasure: createErasureStore(db),
    openOrders: createOpenOrders(db),
    orders: createOrderStore(db),
    payments: createPaymentStore(db),
    shipments: createShipmentStore(db),
  };
}
