import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { COMMANDS } from '@trellis/contracts/command';
import {
  DISPATCH_FAILED_SIGNAL,
  ORDER_WORKFLOW,
  ORDERS_QUEUE,
  orderWorkflowId,
  SHIPPING_QUEUE,
  SHIPPING_WORKFLOW,
  STATUS_QUERY,
} from '@trellis/contracts/temporal';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { anOrder, freshId } from '../fixtures.ts';
import { raw } from '../raw-payload.ts';

const MALFORMED: [what: string, argument: unknown][] = [
  ['null', null],
  ['nothing', undefined],
  ['a number', 7],
  ['a string', 'x'],
  ['a list', [[], 1, null]],
  ['an empty object', {}],
  ['bytes', new Uint8Array([0, 255, 1])],
  [
    'wrong types all over',
    { order_id: 7, payment_id: [], address: 'x', items: { sku: 1 }, policy: 9, line1: 1, city: null },
  ],
  ['something huge', { line1: 'x'.repeat(250_000), city: 'y'.repeat(250_000) }],
  [
    'a problem in each of thousands of fields',
    { items: Array(30_000).fill(1), ...Object.fromEntries(Array.from({ length: 20_000 }, (_, n) => [`k${n}`, 1])) },
  ],
  ['half a character everywhere', { order: null, parent_workflow_id: '\ud800', line1: '\ud800', city: '\udc00' }],
  ['broken JSON', raw('json/plain', '{"line1": ')],
  ['an encoding nobody knows', raw('json/protobuf', '{}')],
  ['no encoding at all', raw('', '')],
];

let connection: Connection;
let client: Client;
beforeAll(async () => {
  connection = await Connection.connect({ address: inject('addresses').TEMPORAL_ADDRESS });
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

/** A failed workflow task is retried for ever and leaves this in the history. */
async function failedTasks(workflowId: string): Promise<number> {
  const { events } = await client.workflow.getHandle(workflowId).fetchHistory();
  return (events ?? []).filter(
    (event) => event.workflowTaskFailedEventAttributes || event.workflowTaskTimedOutEventAttributes,
  ).length;
}

describe.each(MALFORMED)('%s', (_, argument) => {
  test('as the argument of an order ends it failed', async () => {
    const order_id = freshId('bad');
    const handle = await start(order_id, argument);
    expect(await handle.result()).toBe('failed');
    expect(await failedTasks(handle.workflowId)).toBe(0);
  });

  test('as the argument of a shipment fails it', async () => {
    const handle = await client.workflow.start(SHIPPING_WORKFLOW, {
      workflowId: freshId('bad-ship'),
      taskQueue: SHIPPING_QUEUE,
      args: [argument],
    });
    await expect(handle.result()).rejects.toMatchObject({ cause: { message: 'the argument is not a shipment' } });
    expect(await failedTasks(handle.workflowId)).toBe(0);
  });

  test('in every signal, update and query leaves the order alive and well', async () => {
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
    expect(await failedTasks(handle.workflowId)).toBe(0);
  });

  test('as the reason of a cancel cancels all the same', async () => {
    const order = anOrder();
    const handle = await start(order.order_id, order);
    await handle.signal(COMMANDS.cancel.temporal, argument, argument);
    expect(await handle.result()).toBe('canceled');
    expect(await failedTasks(handle.workflowId)).toBe(0);
  });
});

test('and no worker has logged an error about any of it', async () => {
  const log = await readFile(join(inject('folder'), 'logs/worker.log'), 'utf8');
  const levels = log
    .split('\n')
    .flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as { level: number }] : []));
  expect(levels.length).toBeGreaterThan(0);
  expect(levels.filter(({ level }) => level >= 50)).toEqual([]);
});
