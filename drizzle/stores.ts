import { createAttemptStore } from './attempts.ts';
import { createAdmissionStore, createCapacityStore } from './capacity.ts';
import type { Database } from './database.ts';
import { createOpenOrders } from './open-orders.ts';
import { createOrderKeyStore } from './order-keys.ts';
import { createOrderViews } from './order-views.ts';
import { createOrderStore } from './orders.ts';
import { createPaymentStore } from './payments.ts';
import { createShipmentStore } from './shipments.ts';

/** The stores that the API uses, kept apart from the others so that the edge bundle contains no store that it doesn't use. */
export function openApiStores(db: Database) {
  return {
    views: createOrderViews(db),
    capacity: createAdmissionStore(db),
    orderKeys: createOrderKeyStore(db),
    pingDatabase: db.ping,
  };
}

/** All stores of the product on one database. Nothing is connected until a store is used. */
export function openStores(db: Database) {
  return {
    ...openApiStores(db),
    attempts: createAttemptStore(db),
    capacity: createCapacityStore(db),
    openOrders: createOpenOrders(db),
    orders: createOrderStore(db),
    payments: createPaymentStore(db),
    shipments: createShipmentStore(db),
  };
}
