/** Malformed arguments of workflows, signals, updates and queries never fail or stall a workflow task. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { COMMANDS } from '@trellis/contracts/commands';
import {
  DISPATCH_FAILED_SIGNAL,
  ORDER_WORKFLOW,
  ORDERS_QUEUE,
  orderWorkflowId,
  SHIPPING_QUEUE,
  SHIPPING_WORKFLOW,
  STATUS_QUERY,
} from '@trellis/contracts/temporal';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { anOrder, freshId } from '../fixtures.ts';
import { raw } from '../raw-payload.ts';
import { need } from '../servers.ts';

const { TEMPORAL_ADDRESS, workerLog } = await need('temporal', 'worker');

const MALFORMED: [what: string, argument: unknown][] = [
  ['null', null],
  ['nothing', undefined],
  ['a number', 7],
  ['a string', 'x'],
  ['a list', [[], 1, null]],
  ['an empty object', {}],
  ['bytes', new Uint8Array([0, 255, 1])],
  [
    'wrong types in every field',
    { order_id: 7, payment_id: [], address: 'x', items: { sku: 1 }, policy: 9, line1: 1, city: null },
  ],
  ['text of 500 kB', { line1: 'x'.repeat(250_000), city: 'y'.repeat(250_000) }],
  [
    'thousands of invalid fields',
    { items: Array(30_000).fill(1), ...Object.fromEntries(Array.from({ length: 20_000 }, (_, n) => [`k${n}`, 1])) },
  ],
  ['lone surrogates in every text', { order: null, parent_workflow_id: '\ud800', line1: '\ud800', city: '\udc00' }],
  ['broken JSON', raw('json/plain', '{"line1": ')],
  ['an unknown encoding', raw('json/protobuf', '{}')],
  ['no encoding at all', raw('', '')],
];

let connection: Connection;
let client: Client;
beforeAll(async () => {
  connection = await Connection.connect({ address: TEMPORAL_ADDRESS });
  client = new Client({
    connection,
    dataConverter: { payloadConverterPath: fileURLToPath(new URL('../raw-payload.ts', import.meta.url)) },
  });
});
afterAll(() => connection.close());

const start = (order_id: string, argument: unknown) =>
  client.workflow.start(ORDER_WORKFLOW, {
    workflowId: orderWorkflowId(order_id),
    taskQueue: ORDERS_QUEUE,
    args: [argument],
  });

/** WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND */
const FORCE_CLOSE_COMMAND = 17;

/**
 * Why workflow tasks in the history failed or timed out: a task that the worker fails is retried for ever. Not counted is a
 * task that the server ends, to start another one, when more than 2 MB of signals have arrived during it.
 */
async function failedTasks(workflowId: string): Promise<string[]> {
  const { events } = await client.workflow.getHandle(workflowId).fetchHistory();
  return (events ?? []).flatMap(
    ({ workflowTaskFailedEventAttributes: failed, workflowTaskTimedOutEventAttributes }) => {
      if (workflowTaskTimedOutEventAttributes) return ['timed out'];
      return failed && failed.cause !== FORCE_CLOSE_COMMAND ? [`${failed.cause}: ${failed.failure?.message}`] : [];
    },
  );
}

describe.each(MALFORMED)('%s', (_, argument) => {
  test('as the argument of OrderWorkflow ends the order failed', async () => {
    const order_id = freshId('bad');
    const handle = await start(order_id, argument);
    expect(await handle.result()).toBe('failed');
    expect(await failedTasks(handle.workflowId)).toEqual([]);
  });

  test('as the argument of ShippingWorkflow fails the workflow', async () => {
    const handle = await client.workflow.start(SHIPPING_WORKFLOW, {
      workflowId: freshId('bad-ship'),
      taskQueue: SHIPPING_QUEUE,
      args: [argument],
    });
    await expect(handle.result()).rejects.toMatchObject({ cause: { message: 'the argument is not a shipment' } });
    expect(await failedTasks(handle.workflowId)).toEqual([]);
  });

  test('in every signal, update and query does not keep the order from shipping', async () => {
    const order = anOrder();
    const handle = await start(order.order_id, order);
    for (const name of [DISPATCH_FAILED_SIGNAL, COMMANDS.address.temporal, 'no_such_signal'])
      await handle.signal(name, argument, argument);
    await expect(handle.executeUpdate(COMMANDS.address.temporal, { args: [argument] })).rejects.toMatchObject({
      cause: { type: 'INVALID' },
    });
    await handle.query(STATUS_QUERY, argument);
    await handle.executeUpdate(COMMANDS.approve.temporal, { args: [argument] });
    expect(await handle.result()).toBe('shipped');
    expect(await failedTasks(handle.workflowId)).toEqual([]);
  });

  test('as the reason of a cancel cancels the order', async () => {
    const order = anOrder();
    const handle = await start(order.order_id, order);
    await handle.signal(COMMANDS.cancel.temporal, argument, argument);
    expect(await handle.result()).toBe('canceled');
    expect(await failedTasks(handle.workflowId)).toEqual([]);
  });
});

test('the worker has logged no error about a malformed argument', async () => {
  const log = await readFile(workerLog, 'utf8');
  const levels = log
    .split('\n')
    .flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as { level: number }] : []));
  expect(levels.length).toBeGreaterThan(0);
  expect(levels.filter(({ level }) => level >= 50)).toEqual([]);
});
