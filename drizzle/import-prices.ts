/** `npm run prices -- FILE.csv`: imports a price list. Its account must be allowed to write `prices`, as neither program's is. */
import { readFile } from 'node:fs/promises';
import { readCommandLine } from '@trellis/contracts/config/command-line';
import { fromEnvironment } from '@trellis/contracts/config/environment';
import { PROGRAMS } from '@trellis/contracts/config/variables';
import { SHOP_PATTERN } from '@trellis/contracts/id';
import { and, eq, inArray, sql } from 'drizzle-orm';
import { openDatabase } from './client.ts';
import { now } from './columns.ts';
import { type Database, failureLine, type Session } from './database.ts';
import { type ListedPrice, type Mistake, readPriceList } from './price-csv.ts';
import { prices } from './schema.ts';

/** How many skus are read, and prices written, by one statement. */
const CHUNK = 500;
const IMPORT_TIMEOUT_MS = 60_000;

interface Imported {
  added: number;
  replaced: number;
  unchanged: number;
}

/**
 * Writes the prices of a shop's list in one transaction, or nothing if there are mistakes, which it returns. A price without a time
 * holds from now on, by the database's clock, unless it holds already. A price that is yet to come may be replaced, one that has been
 * valid never: orders were charged by it.
 */
export async function importPrices(db: Database, shop: string, list: ListedPrice[]): Promise<Imported | Mistake[]> {
  // Apart from the transaction: on Vitess it would be of another keyspace.
  const time = await db.run(timeOf);
  return db.transaction(async (tx) => {
    const known = await recorded(tx, shop, list);
    const imported: Imported = { added: 0, replaced: 0, unchanged: 0 };
    const mistakes: Mistake[] = [];
    const written: (typeof prices.$inferInsert)[] = [];
    for (const { line, valid_from, ...price } of list) {
      const ofSku = known.get(price.sku) ?? [];
      const before = valid_from
        ? ofSku.find((one) => one.valid_from === valid_from)
        : ofSku.findLast((one) => one.valid_from <= time);
      if (before && before.amount === price.amount && before.currency === price.currency) imported.unchanged += 1;
      else if (valid_from && valid_from <= time)
        mistakes.push({ line, path: 'valid_from', message: 'is past: leave it empty for a price from now on' });
      else {
        imported[valid_from && before ? 'replaced' : 'added'] += 1;
        written.push({ shop, ...price, valid_from: valid_from ?? time });
      }
    }
    if (mistakes.length > 0) return mistakes;
    for (const chunk of chunksOf(written))
      await tx
        .insert(prices)
        .values(chunk)
        .onDuplicateKeyUpdate({ set: { amount: sql`VALUES(amount)`, currency: sql`VALUES(currency)` } });
    return imported;
  }, IMPORT_TIMEOUT_MS);
}

/** The database's time. */
async function timeOf(session: Session): Promise<string> {
  const [clock] = await session.select({ time: sql<string>`${now}`.mapWith(prices.valid_from) }).from(sql`DUAL`);
  if (!clock) throw new Error('the database tells no time');
  return clock.time;
}

/** The shop's prices of each sku in the list, the oldest first. */
async function recorded(tx: Session, shop: string, list: ListedPrice[]) {
  const found: (typeof prices.$inferSelect)[] = [];
  for (const skus of chunksOf([...new Set(list.map(({ sku }) => sku))])) {
    const ofSkus = and(eq(prices.shop, shop), inArray(prices.sku, skus));
    found.push(...(await tx.select().from(prices).where(ofSkus).orderBy(prices.valid_from)));
  }
  return Map.groupBy(found, ({ sku }) => sku);
}

const chunksOf = <T>(all: T[]): T[][] =>
  Array.from({ length: Math.ceil(all.length / CHUNK) }, (_, n) => all.slice(n * CHUNK, (n + 1) * CHUNK));

if (import.meta.main) {
  const { argument: file, shop = '' } = readCommandLine(
    'npm run prices',
    'Import a price list, a CSV file with the columns sku, amount, currency and, if you like, valid_from.',
    { shop: { description: 'the shop whose prices they are; none where there are no shops', value: 'SHOP' } },
    'FILE.csv',
  );
  if (shop !== '' && !SHOP_PATTERN.test(shop)) exit('--shop must be 1 to 32 of A-Z a-z 0-9 . _ -', 2);
  const { DATABASE_URL } = fromEnvironment(PROGRAMS.prices);
  const csv = await readFile(file, 'utf8').catch(({ message }: Error) => exit(message));
  const { list, mistakes } = readPriceList(csv);
  if (mistakes.length > 0) exitWith(mistakes, file);
  const db = openDatabase(DATABASE_URL);
  const imported = await importPrices(db, shop, list).catch((error) => {
    const line = failureLine('DATABASE_URL', DATABASE_URL, error);
    if (line === undefined) throw error;
    exit(line);
  });
  await db.close();
  if (Array.isArray(imported)) exitWith(imported, file);
  const { added, replaced, unchanged } = imported;
  process.stdout.write(`prices: ${added} added, ${replaced} replaced, ${unchanged} unchanged\n`);
}

function exitWith(mistakes: Mistake[], file: string): never {
  const lines = mistakes.map(({ line, path, message }) => `${file}:${line}: ${path ? `${path}: ` : ''}${message}`);
  exit([...lines, 'nothing was changed'].join('\n'));
}

function exit(text: string, code = 1): never {
  process.stderr.write(`${text}\n`);
  process.exit(code);
}
