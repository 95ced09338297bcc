/** The keys of orders, each encrypted with a key of the configuration. */
import type { KeyStore } from '@trellis/contracts/payload-codec';
import { eq } from 'drizzle-orm';
import { type Database, DatabaseError } from './database.ts';
import { orderKeys } from './schema.ts';

/** The errno of a row whose key exists. */
const DUPLICATE = 1062;

export function createOrderKeyStore(db: Database): KeyStore {
  return {
    find: (orderId) =>
      db.run(async (session) => {
        const { kek, wrapped } = orderKeys;
        return (await session.select({ kek, wrapped }).from(orderKeys).where(eq(orderKeys.order_id, orderId)))[0];
      }),

    async add(orderId, key) {
      try {
        await db.run((session) => session.insert(orderKeys).values({ order_id: orderId, ...key }));
        return true;
      } catch (error) {
        // Also when the answer to this insert itself was lost, and it was repeated.
        if (error instanceof DatabaseError && error.errno === DUPLICATE) return false;
        throw error;
      }
    },
  };
}
