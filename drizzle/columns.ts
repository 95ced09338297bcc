/** The column types of every table, and the selection of columns that returns a contract's value. */
import { RECORDED_ID_LENGTH } from '@trellis/contracts/id';
import { getTableColumns, sql } from 'drizzle-orm';
import { customType, decimal, type MySqlTable } from 'drizzle-orm/mysql-core';

/** Ids compare byte by byte: `o-1` and `O-1` are two orders. */
export const id = customType<{ data: string; config: { length: number } }>({
  dataType: (config) => `varchar(${config?.length ?? 64}) CHARACTER SET ascii COLLATE ascii_bin`,
});

/** The id of an order or a payment. */
export const recordedId = (name: string) => id(name, { length: RECORDED_ID_LENGTH });

const UTF8 = 'CHARACTER SET utf8mb4';

/** Text of at most `length` characters of any script, whatever character set the database was created with. */
export const text = customType<{ data: string; config: { length: number }; configRequired: true }>({
  dataType: ({ length }) => `varchar(${length}) ${UTF8}`,
});

/** The same, of which `a` and `A`, and `a` and `ä`, are two keys. */
export const exactText = customType<{ data: string; config: { length: number }; configRequired: true }>({
  dataType: ({ length }) => `varchar(${length}) ${UTF8} COLLATE utf8mb4_bin`,
});

/** In characters; a column `text` takes 65,535 bytes, and a character has up to four. */
const MAX_MESSAGE_LENGTH = 4_000;

/** An error's message, of any length: cut to what the column takes, as one that doesn't fit would keep its order from ending. */
export const message = (name: string, length?: number) =>
  customType<{ data: string }>({
    dataType: () => `${length === undefined ? 'text' : `varchar(${length})`} ${UTF8}`,
    toDriver: (value) => value.slice(0, length ?? MAX_MESSAGE_LENGTH).toWellFormed(),
  })(name);

/** Both drivers return JSON as text, as MariaDB does: a JSON text that is a string itself must not be parsed twice. */
export const json = customType<{ data: unknown; driverData: string }>({
  dataType: () => 'json',
  // A JavaScript string may contain a lone surrogate; JSON in SQL may not.
  toDriver: (value) => JSON.stringify(value, (_, part) => (typeof part === 'string' ? part.toWellFormed() : part)),
  fromDriver: (value) => JSON.parse(value),
});

/**
 * A contract's Timestamp: ISO 8601 in UTC, written with milliseconds, read with as many digits as the column has. Both
 * drivers exchange `YYYY-MM-DD hh:mm:ss.fff` in the session's time zone, which is UTC.
 */
export const timestamp = customType<{ data: string; driverData: string; config: { fsp: 3 | 6 } }>({
  dataType: (config) => `timestamp(${config?.fsp ?? 3})`,
  toDriver: (value) => new Date(value).toISOString().slice(0, -1).replace('T', ' '),
  fromDriver: (value) => `${value.replace(' ', 'T')}Z`,
});

/** The current time of the database's clock. */
export const now = sql`CURRENT_TIMESTAMP(3)`;
/** A column for a time, which defaults to the current one. */
export const timestampNow = (name: string) => timestamp(name).notNull().default(now);

/** As many digits as MAX_AMOUNT of contracts. */
export const money = (name: string) => decimal(name, { precision: 14, scale: 2 });
export const currency = () => text('currency', { length: 3 });

type Columns<T extends MySqlTable> = T['_']['columns'];

/** The columns with the keys of a contract's schema: a select of them returns the contract's value. */
export function columnsFor<T extends MySqlTable, K extends string & keyof Columns<T>>(
  table: T,
  contract: { readonly entries: Readonly<Record<K, unknown>> },
): Pick<Columns<T>, K> {
  const columns = getTableColumns(table);
  const keys = Object.keys(contract.entries) as K[];
  return Object.fromEntries(keys.map((key) => [key, columns[key]])) as Pick<Columns<T>, K>;
}
