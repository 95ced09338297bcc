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
  SETTLE_WORKFLOW,
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
  ['lists in lists, tens of thousands deep', raw('json/plain', nested('['))],
  [
    'objects in objects, tens of thousands deep, in every field',
    raw('json/plain', `{"address":${nested('[')},"line1":${nested('[')},"order":{"address":${nested('[')}}}`),
  ],
  [
    'numbers beyond every range',
    raw('json/plain', '{"items":1e400,"attempt":-1e400,"deadline_at":1e400,"line1":1e300}'),
  ],
  [
    "names of an object's own",
    raw('json/plain', '{"__proto__":{"order_id":"x"},"constructor":1,"toJSON":{},"then":1}'),
  ],
  ['broken JSON', raw('json/plain', '{"line1": ')],
  ['an unknown encoding', raw('json/protobuf', '{}')],
  ['no encoding at all', raw('', '')],
  ['an encryption of the caller’s own', raw('binary/encrypted', '{}')],
];

/** Deeply nested JSON. */
function nested(bracket: '['): string {
  return bracket.repeat(40_000) + ']'.repeat(40_000);
}

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

  test('as the argument of SettleWorkflow changes nothing', async () => {
    const handle = await client.workflow.start(SETTLE_WORKFLOW, {
      workflowId: freshId('bad-settle'),
      taskQueue: ORDERS_QUEUE,
      args: [argument],
    });
    expect(await handle.result()).toBeFalsy();
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

describe('at the limits of Temporal', () => {
  /** Just below the 2 MB that a payload may have. */
  const HUGE = 'x'.repeat(2 * 1024 * 1024 - 2_000);

  test.each([
    ['the order id', { order_id: HUGE }],
    ['the payment id', { payment_id: HUGE }],
    ['the address', { address: { line1: HUGE, city: 'Boston' } }],
    ['the items', { items: [{ sku: HUGE, qty: 1 }] }],
    ['the policy', { policy: HUGE }],
    ['an unknown field', { note: HUGE }],
  ])('an order with 2 MB in %s ends failed', async (_, huge) => {
    const order = { ...anOrder(), ...huge };
    const handle = await start(freshId(), order);
    await handle.signal(COMMANDS.approve.temporal);
    expect(await handle.result()).toBe('failed');
    expect(await failedTasks(handle.workflowId)).toEqual([]);
  });

  test.each(['cancel', 'address'] as const)('a %s of 2 MB, by signal and by update, is decided', async (command) => {
    const order = anOrder();
    const handle = await start(order.order_id, order);
    const { temporal } = COMMANDS[command];
    await handle.signal(DISPATCH_FAILED_SIGNAL, HUGE);
    await handle.executeUpdate(temporal, { args: [{ line1: HUGE, city: 'Boston' }] }).catch(() => undefined);
    // An order that this update has canceled takes no signal any more.
    const late = [handle.signal(temporal, HUGE), handle.signal(COMMANDS.approve.temporal)];
    await Promise.allSettled(late);
    expect(await handle.result()).toBe(command === 'cancel' ? 'canceled' : 'shipped');
    expect(await failedTasks(handle.workflowId)).toEqual([]);
  });

  test('an order under a workflow id of another form, of 255 characters of any kind, ships', async () => {
    const order = anOrder();
    const workflowId = `${freshId()} größe/🪴?#%\n\u0000`.padEnd(255, 'é');
    const handle = await client.workflow.start(ORDER_WORKFLOW, { workflowId, taskQueue: ORDERS_QUEUE, args: [order] });
    await handle.signal(COMMANDS.approve.temporal);
    expect(await handle.result()).toBe('shipped');
    expect(await failedTasks(workflowId)).toEqual([]);
  });

  test.each([
    ['1,000 bytes', 'é'.repeat(500)],
    ['1,001 bytes', `${'é'.repeat(500)}x`],
    ['2 MB', HUGE],
    ['control characters', 'a\n\u0000\u2028'],
    ['a list', ['x']],
  ])('a shipment whose parent id is %s fails as invalid', async (_, parent_workflow_id) => {
    const handle = await client.workflow.start(SHIPPING_WORKFLOW, {
      workflowId: freshId('bad-ship'),
      taskQueue: SHIPPING_QUEUE,
      args: [{ order: null, parent_workflow_id }],
    });
    await expect(handle.result()).rejects.toMatchObject({ cause: { message: 'the argument is not a shipment' } });
    expect(await failedTasks(handle.workflowId)).toEqual([]);
  });

  test.each<[what: string, field: string]>([
    ['attempt 1e300', '"attempt":1e300'],
    ['attempt -1e300', '"attempt":-1e300'],
    ['attempt 1e400', '"attempt":1e400'],
    ['attempt 2.5', '"attempt":2.5'],
    ['deadline 1e300', '"deadline_at":1e300'],
    ['deadline 1e400', '"deadline_at":1e400'],
    ['deadline "soon"', '"deadline_at":"soon"'],
    ['deadline -1e300', '"deadline_at":-1e300'],
  ])('a shipment of an unpaid order with %s fails', async (what, field) => {
    const order = anOrder();
    const parent = await start(order.order_id, order);
    await parent.executeUpdate(COMMANDS.address.temporal, { args: [order.address] });
    const handle = await client.workflow.start(SHIPPING_WORKFLOW, {
      workflowId: freshId('bad-ship'),
      taskQueue: SHIPPING_QUEUE,
      args: [raw('json/plain', `{"order":${JSON.stringify(order)},${field}}`)],
    });
    const type = what === 'deadline -1e300' ? 'DEADLINE' : 'CARRIER_CLOSED';
    await expect(handle.result()).rejects.toMatchObject({ cause: { type } });
    expect(await failedTasks(handle.workflowId)).toEqual([]);
    await parent.signal(COMMANDS.cancel.temporal);
    expect(await parent.result()).toBe('canceled');
  });

  test('signals whose names Temporal reserves do not stop an order', async () => {
    const order = anOrder();
    const handle = await start(order.order_id, order);
    for (const name of ['__temporal_x', '__stack_trace', 'constructor', 'é'.repeat(500)]) await handle.signal(name, 1);
    await handle.signal(COMMANDS.approve.temporal);
    expect(await handle.result()).toBe('shipped');
    expect(await failedTasks(handle.workflowId)).toEqual([]);
  });

  test('fifty megabytes of signals end in an order that is decided, or whose run Temporal ends', async () => {
    const order = anOrder();
    const handle = await start(order.order_id, order);
    const sent = Array.from({ length: 25 }, () =>
      handle.signal(COMMANDS.address.temporal, HUGE).catch(() => undefined),
    );
    await Promise.all(sent);
    const ended = await handle.result().catch((error: Error) => error.constructor.name);
    expect(['expired', 'WorkflowFailedError']).toContain(ended);
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
