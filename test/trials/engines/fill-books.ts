/** Books with many orders, as the product and the sandbox would have written them. */
import { query } from './mysql.ts';

const ROWS_AT_ONCE = 500;
const MONEY = "2.00, 'USD'";

/** For each way to end: the order's state, its payment on both sides, and whether a parcel left. */
const ENDS = [
  { state: 'shipped', ours: 'charged', theirs: 'charged', parcel: true },
  { state: 'canceled', ours: 'refunded', theirs: 'refunded', parcel: false },
  { state: 'failed', ours: 'failed', theirs: 'declined', parcel: false },
];

/** Inserts `count` orders into the database at `url`, which has none of these ids; resolves with how many of each end. */
export async function fillBooks(url: string, count: number): Promise<string> {
  for (let from = 0; from < count; from += ROWS_AT_ONCE) {
    const orders = Array.from({ length: Math.min(ROWS_AT_ONCE, count - from) }, (_, n) => {
      const end = ENDS[(from + n) % ENDS.length] as (typeof ENDS)[number];
      return { id: `filled-${from + n}`, ...end };
    });
    const shipped = orders.filter(({ parcel }) => parcel);
    const inserts: [table: string, columns: string, rows: string[]][] = [
      [
        'orders',
        'id, state, amount, currency, workflow_id, run_id, step',
        orders.map(({ id, state }) => `'${id}', '${state}', ${MONEY}, 'order-${id}', 'run', 'done'`),
      ],
      [
        'payments',
        'payment_id, order_id, status, amount, currency',
        orders.map(({ id, ours }) => `'pay-${id}', '${id}', '${ours}', ${MONEY}`),
      ],
      [
        'sandbox_charges',
        'payment_id, order_id, status, amount, currency',
        orders.map(({ id, theirs }) => `'pay-${id}', '${id}', '${theirs}', ${MONEY}`),
      ],
      ['sandbox_parcels', 'order_id, status', shipped.map(({ id }) => `'${id}', 'taken'`)],
      ['shipments', 'order_id, attempt, status', shipped.map(({ id }) => `'${id}', 1, 'dispatched'`)],
    ];
    for (const [table, columns, rows] of inserts)
      await query(url, `INSERT INTO ${table} (${columns}) VALUES ${rows.map((row) => `(${row})`).join(', ')}`);
  }
  return `${count} inserted`;
}
