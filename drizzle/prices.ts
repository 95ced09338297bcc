/** The price lists, one for each shop. Their import is apart, in import-prices.ts, because the edge bundle is bounded. */
import type { UnitPrices } from '@trellis/contracts/pricing';
import { and, eq, inArray, lte, max, sql } from 'drizzle-orm';
import { unionAll } from 'drizzle-orm/mysql-core';
import { now } from './columns.ts';
import type { Database } from './database.ts';
import { prices } from './schema.ts';

export type PriceStore = ReturnType<typeof createPriceStore>;

export function createPriceStore(db: Database) {
  return {
    /**
     * What these skus of a shop cost now, by the database's clock; those without a price are missing. Undefined while the shop has no
     * list, none of whose prices is valid yet. One statement, of one table: on Vitess that is in another keyspace than orders.
     */
    of: (shop: string, skus: string[]): Promise<UnitPrices | undefined> =>
      db.run(async (session) => {
        const { sku, amount, currency, valid_from } = prices;
        const valid = and(eq(prices.shop, shop), lte(valid_from, now));
        const newest = session
          .select({ sku, valid_from: max(valid_from).as('newest') })
          .from(prices)
          .where(and(valid, inArray(sku, [...new Set(skus)])))
          .groupBy(sku)
          .as('newest');
        const current = session
          .select({ sku, amount, currency })
          .from(prices)
          .innerJoin(newest, and(eq(sku, newest.sku), eq(valid_from, newest.valid_from)))
          .where(eq(prices.shop, shop));
        // No sku is empty: this row only says that there is a list.
        const any = session.select({ sku: sql<string>`''`, amount, currency }).from(prices).where(valid).limit(1);
        const rows = await unionAll(current, any);
        return rows.length === 0 ? undefined : new Map(rows.map(({ sku, ...price }) => [sku, price]));
      }),
  };
}
