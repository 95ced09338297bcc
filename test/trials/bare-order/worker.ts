/** The bare order's worker: each step is one small transaction. It has the SDK's own settings, and makes its tables in DATABASE_URL. */
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { createPool } from 'mysql2/promise';

export interface BareOrder {
  payment_id: string;
  address: object;
  items: object[];
}
export type Steps = typeof steps;

const { DATABASE_URL = '', TEMPORAL_ADDRESS = '', TEMPORAL_NAMESPACE = '', TASK_QUEUE = '', BUNDLE = '' } = process.env;
const pool = createPool({ uri: DATABASE_URL, connectionLimit: 16 });
const NOW = 'timestamp(3) default current_timestamp(3)';
const TABLES = [
  `orders (id varchar(64) primary key, state varchar(16) not null, address json, items json, execs int not null default 1,
    created ${NOW}, updated ${NOW} on update current_timestamp(3))`,
  `payments (payment_id varchar(80) primary key, order_id varchar(64) not null, amount int not null,
    execs int not null default 1, key (order_id))`,
  'shipments (order_id varchar(64) primary key, state varchar(16) not null, execs int not null default 1)',
];

async function transaction(sql: string, values: (string | number)[]): Promise<void> {
  const connection = await pool.getConnection();
  try {
    await connection.beginTransaction();
    await connection.execute(sql, values);
    await connection.commit();
  } catch (error) {
    await connection.rollback().catch(() => undefined);
    throw error;
  } finally {
    connection.release();
  }
}

const steps = {
  receive: (id: string, { address, items }: BareOrder) =>
    transaction(
      `insert into orders (id, state, address, items) values (?, 'received', ?, ?)
        on duplicate key update execs = execs + 1`,
      [id, JSON.stringify(address), JSON.stringify(items)],
    ),
  validate: (id: string) =>
    transaction("update orders set state = 'validated', execs = execs + 100 where id = ?", [id]),
  charge: (id: string, { payment_id, items }: BareOrder) =>
    transaction(
      'insert into payments (payment_id, order_id, amount) values (?, ?, ?) on duplicate key update execs = execs + 1',
      [payment_id, id, items.length * 1000],
    ),
  prepare: (id: string) =>
    transaction(
      "insert into shipments (order_id, state) values (?, 'prepared') on duplicate key update execs = execs + 1",
      [id],
    ),
  dispatch: (id: string) =>
    transaction("update shipments set state = 'dispatched', execs = execs + 100 where order_id = ?", [id]),
  ship: (id: string) => transaction("update orders set state = 'shipped', execs = execs + 10000 where id = ?", [id]),
};

Runtime.install({ logger: new DefaultLogger('ERROR') });
for (const table of TABLES) await pool.query(`create table if not exists ${table}`);
const worker = await Worker.create({
  connection: await NativeConnection.connect({ address: TEMPORAL_ADDRESS }),
  namespace: TEMPORAL_NAMESPACE,
  taskQueue: TASK_QUEUE,
  workflowBundle: { codePath: BUNDLE },
  activities: steps,
});
process.once('disconnect', () => process.exit());
process.send?.('ready');
await worker.run();
process.exit();
