/** Reads a price list from CSV, with the line and the field of each mistake. */
import type { Problem } from '@trellis/contracts/error';
import { Item, problemsOf } from '@trellis/contracts/order';
import { CsvError, parse } from 'csv-parse/sync';
import * as currencies from 'dinero.js/currencies';
import * as v from 'valibot';

/** Its path is a column's name, or empty for the whole line. */
export type Mistake = Problem & { line: number };

/** A price of a list; `valid_from` undefined for a price from now on. */
export type ListedPrice = v.InferOutput<typeof ListedPrice> & { line: number };

/** Not those of Intl, to which HUF and others have no decimals: payment companies charge their hundredths. */
const CURRENCIES: Record<string, { base: number; exponent: number }> = currencies;

/** Without an offset the midnight at which a day begins in UTC. */
const TIME = /^(\d{4}-\d\d-\d\d)(T\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d))?$/;

const ListedPrice = v.pipe(
  v.object({
    sku: v.pipe(
      Item.entries.sku,
      v.check((sku) => sku === sku.trim(), 'must not begin or end with white space'),
      v.check((sku) => !sku.includes('\uFFFD'), 'must be in UTF-8'),
    ),
    amount: v.pipe(
      v.string(),
      v.regex(/^\d{1,12}(\.\d{1,2}0*)?$/, 'must be a number such as 9.99, with at most two decimals other than 0'),
      v.transform(asStored),
      v.check((amount) => amount !== '0.00', 'must be more than 0'),
    ),
    currency: v.pipe(
      v.string(),
      v.check((code) => Object.hasOwn(CURRENCIES, code), 'must be a code of ISO 4217, such as EUR'),
    ),
    valid_from: v.optional(
      v.pipe(
        v.string(),
        v.check(isTime, 'must be a day, or a time with its offset such as 2026-12-01T08:00:00+01:00, before 2038'),
        v.transform((time) => new Date(time).toISOString()),
      ),
    ),
  }),
  v.forward(
    v.partialCheck([['amount'], ['currency']], isWhole, 'is not a whole number of the smallest units of its currency'),
    ['amount'],
  ),
);

const COLUMNS = Object.keys(ListedPrice.entries);

/** As SQL returns it. */
function asStored(amount: string): string {
  const [units = '', decimals = ''] = amount.split('.');
  return `${BigInt(units)}.${decimals.padEnd(2, '0').slice(0, 2)}`;
}

function isWhole({ amount, currency }: { amount: string; currency: string }): boolean {
  const { base = 1, exponent = 0 } = CURRENCIES[currency] ?? {};
  return (BigInt(amount.replace('.', '')) * BigInt(base ** exponent)) % 100n === 0n;
}

function isTime(time: string): boolean {
  const [, day = ''] = TIME.exec(time) ?? [];
  // A TIMESTAMP of SQL ends in 2038. A Date takes February 30 for March 2.
  return day !== '' && day < '2038' && Number.isFinite(Date.parse(time)) && !!new Date(day).toJSON()?.startsWith(day);
}

/** Reads a price list: CSV with a header. Returns its prices and all of its mistakes. */
export function readPriceList(csv: string): { list: ListedPrice[]; mistakes: Mistake[] } {
  let records: { record: string[]; info: { lines: number } }[];
  try {
    const format = { bom: true, trim: true, skip_empty_lines: true, record_delimiter: ['\r\n', '\n', '\r'] };
    records = parse(csv, { ...format, relax_column_count: true, info: true }) as unknown as typeof records;
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const line = Number(error.lines);
    return { list: [], mistakes: [{ line, path: '', message: error.message.replaceAll(/\s+/g, ' ') }] };
  }
  const [{ record: header } = { record: [] }, ...lines] = records;
  const list: ListedPrice[] = [];
  const mistakes = mistakesInHeader(header);
  if (mistakes.length > 0) return { list, mistakes };
  const known = new Map<string, number>();
  for (const { record, info } of lines) {
    const line = info.lines;
    const report = (problem: Problem) => mistakes.push({ line, ...problem });
    if (record.length !== header.length) {
      report({ path: '', message: `has ${record.length} fields, and the header ${header.length}` });
      continue;
    }
    const fields = header.map((name, at) => [name, record[at]]).filter(([name, text]) => name !== 'valid_from' || text);
    const parsed = v.safeParse(ListedPrice, Object.fromEntries(fields));
    if (!parsed.success) {
      problemsOf(parsed.issues).forEach(report);
      continue;
    }
    const { sku, valid_from } = parsed.output;
    const key = JSON.stringify([sku, valid_from]);
    const earlier = known.get(key);
    if (earlier !== undefined) report({ path: 'sku', message: `has a price from the same time on in line ${earlier}` });
    known.set(key, line);
    list.push({ line, ...parsed.output });
  }
  return { list, mistakes };
}

function mistakesInHeader(header: string[]): Mistake[] {
  const missing = COLUMNS.filter((name) => name !== 'valid_from' && !header.includes(name));
  const wrong = header.filter((name, at) => !COLUMNS.includes(name) || header.indexOf(name) !== at);
  return [
    ...missing.map((path) => ({ line: 1, path, message: 'is missing in the header' })),
    ...wrong.map((path) => ({ line: 1, path, message: `is not one of the columns ${COLUMNS.join(', ')}, once each` })),
  ];
}
