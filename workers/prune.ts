/**
 * `npm run prune`: deletes old failed attempts, erases the orders that ended long ago, and takes texts out of the events of erased orders. Each
 * step is small and stands by itself, so that it may be stopped at any time and run again.
 */
import { Connection, ServiceError, WorkflowFailedError } from '@temporalio/client';
import { type Actor, VIA } from '@trellis/contracts/actor';
import { readCommandLine } from '@trellis/contracts/config/command-line';
import { createTemporalClient, fromEnvironmentAndProfile } from '@trellis/contracts/config/temporal-client';
import { PROGRAMS } from '@trellis/contracts/config/variables';
import { ERASE_WORKFLOW, type EraseInput, eraseWorkflowId, ORDERS_QUEUE } from '@trellis/contracts/temporal';
import { createAttemptStore } from '@trellis/drizzle/attempts';
import { openDatabase } from '@trellis/drizzle/client';
import { failureLine } from '@trellis/drizzle/database';
import { createErasureStore } from '@trellis/drizzle/erasure';
import pTimeout, { TimeoutError } from 'p-timeout';

const PRUNE: Actor = { sub: 'prune', via: VIA.worker };
/** Orders that are erased at once: few, as the workers have others to work on. */
const AT_ONCE = 5;
const ERASED_WITHIN_MS = 120_000;

const options = readCommandLine('npm run prune', 'Delete and erase what need not be kept any longer.', {
  'personal-days': { description: 'erase orders that ended more than DAYS days ago, 90 by default', value: 'DAYS' },
  'dry-run': { description: 'print what there is to do, and do nothing' },
});
const { 'personal-days': days = '90', 'dry-run': dryRun = false } = options;
if (!/^[1-9]\d{0,4}$/.test(days)) exit('--personal-days must be a number of days, at least 1', 2);
const {
  DATABASE_URL,
  TEMPORAL_ADDRESS: address,
  TEMPORAL_NAMESPACE,
  temporal,
} = fromEnvironmentAndProfile(PROGRAMS.prune);
const db = openDatabase(DATABASE_URL);
const attempts = createAttemptStore(db);
const erasure = createErasureStore(db);
const connection = Connection.lazy({ address, ...temporal });
const { workflow } = createTemporalClient(connection, TEMPORAL_NAMESPACE);

try {
  report('failed attempts older than 7 days', await pruneAttempts());
  report(`orders that ended more than ${days} days ago`, await eraseOrders());
  report('events with personal data', await eraseEvents());
} catch (error) {
  const line = failureLine('DATABASE_URL', DATABASE_URL, error) ?? temporalLine(error);
  if (line === undefined) throw error;
  exit(line, 1);
}
await Promise.all([connection.close(), db.close()]);

async function pruneAttempts(): Promise<number> {
  const old = await attempts.countOld();
  if (!dryRun) while (await attempts.dropOld());
  return old;
}

/** As `orders.erase` does it. */
async function eraseOrders(): Promise<number> {
  let due = 0;
  for await (const page of erasure.dueSince(Number(days))) {
    due += page.length;
    if (dryRun) continue;
    for (let from = 0; from < page.length; from += AT_ONCE)
      await Promise.all(page.slice(from, from + AT_ONCE).map(eraseOrder));
  }
  return due;
}

async function eraseOrder(order_id: string): Promise<void> {
  const erased = workflow.execute(ERASE_WORKFLOW, {
    workflowId: eraseWorkflowId(order_id),
    taskQueue: ORDERS_QUEUE,
    args: [{ order_id, erased_by: PRUNE } satisfies EraseInput],
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  const message = `order ${order_id} was not erased within ${ERASED_WITHIN_MS / 1_000} s; is a worker running?`;
  await pTimeout(erased, { milliseconds: ERASED_WITHIN_MS, message });
}

async function eraseEvents(): Promise<number> {
  let found = 0;
  for await (const page of erasure.withPersonalEvents())
    for (const [order_id, events] of page) {
      found += events;
      if (!dryRun) await erasure.eraseEvents(order_id);
    }
  return found;
}

/** One line for the operator; undefined when it was neither Temporal nor a worker that failed. */
function temporalLine(error: unknown): string | undefined {
  if (error instanceof TimeoutError) return error.message;
  if (!(error instanceof ServiceError || error instanceof WorkflowFailedError)) return undefined;
  const { message } = error.cause ?? error;
  return `TEMPORAL_ADDRESS (${address}): ${message}`;
}

function report(what: string, count: number): void {
  process.stdout.write(`${what}: ${count}${dryRun ? ' to do' : ' done'}\n`);
}

function exit(line: string, code: number): never {
  process.stderr.write(`${line}\n`);
  process.exit(code);
}
