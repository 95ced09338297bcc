import { createAttemptStore } from './attempts.ts';
import { createCapacityStore } from './capacity.ts';
import type { Database } from './database.ts';
import { createOrderViews } from './order-views.ts';
import { createOrderStore } from './orders.ts';
import { createPaymentStore } from './payments.ts';
import { createShipmentStore } from './shipments.ts';

/** All stores of the product on one database. Nothing is connected until a store is used. */
export function openStores(db: Database) {
  return {
    orders: createOrderStore(db),
    views: createOrderViews(db),
    payments: createPaymentStore(db),
    shipments: createShipmentStore(db),
    attempts: createAttemptStore(db),
    capacity: createCapacityStore(db),
  };
}
