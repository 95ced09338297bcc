/** An order's history stays bounded: a run whose history is full continues as new, whatever it waits for, and loses nothing. */
import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import { createGrpcTemporal } from '@trellis/api/temporal/grpc';
import { COMMAND_LIMITS, COMMANDS, type Command, type CommandAnswer } from '@trellis/contracts/commands';
import { shippingWorkflowId, WORKFLOW_TASK_TIMEOUT_MS } from '@trellis/contracts/temporal';
import { createConnection } from 'mysql2/promise';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { bundleEdited } from '../edited-workflows.ts';
import { anOrder, eventually } from '../fixtures.ts';
import {
  apiOn,
  awaitingApproval,
  type Fault,
  fillHistory,
  gate,
  type HistoryEvent,
  inFirstAttempt,
  onlyFirst,
  openTestbed,
  ownTestbed,
  type PlacedOrder,
  refusal,
} from '../workflow-fixture.ts';

const UNREACHABLE = { line1: '123 Main', city: 'Unreachable' };
const BOSTON = { line1: '2 Birch', city: 'Boston' };

const cached = await openTestbed({ clock: 'real' });
const replaying = await openTestbed({ clock: 'real', cacheWorkflows: false });
const beds = [cached, replaying];
afterAll(() => Promise.all(beds.map((bed) => bed.close())));

describe.each([
  ['cached workflows', cached],
  ['workflows that replay at every task', replaying],
])('an order is continued as new, with %s,', (_, bed) => {
  test('in the review: its window is not restarted, its rules stay, a known id gets its first answer', async () => {
    const given = anOrder();
    const args = [{ ...given, policy: 'production' }];
    const order = await bed.place(given, { args, workflowTaskTimeout: '4s', memo: { note: 'kept' } });
    await awaitingApproval(order);
    const first = await order.update('address', [BOSTON], 'move');
    await fillHistory(order);
    expect(await order.update('address', [UNREACHABLE], 'move')).toEqual(first);
    expect(await order.update('approve')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('shipped');
    expect((await order.row()).address).toEqual(BOSTON);
    const [before, after] = await order.runs();
    expect(timers(after?.events)[0]).toBeLessThan(timers(before?.events)[0] ?? 0);
    expect((await order.row()).run_id).toBe(before?.runId);
    const started = after?.events[0]?.workflowExecutionStartedEventAttributes;
    expect(Number(started?.workflowTaskTimeout?.seconds)).toBe(4);
    expect((await order.handle.describe()).memo).toEqual({ note: 'kept' });
  });

  test('before an approval from which its budget counts: it has that whole budget, and ships', async () => {
    const given = anOrder();
    const order = await bed.place(given, { args: [{ ...given, policy: 'production' }] });
    await awaitingApproval(order);
    await fillHistory(order);
    expect(await order.update('approve')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('shipped');
  });

  test('while it is charged: it is charged once', async () => {
    const charge = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.afterFirst } });
    await charge.reached;
    await fillHistory(order);
    expect(await order.end()).toBe('shipped');
    charge.open();
    expect(await bed.books(order.id)).toMatchObject({ charges: ['charged'], parcel: { status: 'taken' } });
  });

  test('during a shipping attempt: the attempt ends, the next one ships one parcel', async () => {
    const dispatch = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { dispatch: dispatch.after } });
    await dispatch.reached;
    await order.signal('address', BOSTON, 'waits');
    await fillHistory(order);
    dispatch.open();
    expect(await order.end()).toBe('shipped');
    const first = await order.handle.client.getHandle(shippingWorkflowId(order.id, 1)).describe();
    expect(first.status.name).toBe('TERMINATED');
    const { shipments, events } = await order.view();
    expect(shipments.map(({ status }) => status).sort()).toEqual(['dispatched', 'failed']);
    expect(events.map(({ payload }) => payload)).toContainEqual(
      expect.objectContaining({ command: 'address', id: 'waits', code: 'TOO_LATE' }),
    );
  });

  test('between two shipping attempts: the pause is not restarted, and a new address ends it', async () => {
    const given = anOrder({ address: UNREACHABLE });
    const order = await bed.placeApproved(given, { args: [{ ...given, policy: 'production' }] });
    await eventually(async () => timers((await order.runs())[0]?.events).length > 0);
    await fillHistory(order);
    const pause = async () => timers((await order.runs())[1]?.events)[0];
    expect(await eventually(pause)).toBeLessThan(60_000);
    expect(await order.update('address', [BOSTON])).toMatchObject({ changed: true });
    expect(await order.end()).toBe('shipped');
  });

  test('during the refund: it is refunded once', async () => {
    const [charge, refund] = [gate(), gate()];
    const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.after, refund: refund.afterFirst } });
    await charge.reached;
    await order.update('cancel', ['first'], 'cancel');
    await refund.reached;
    await fillHistory(order);
    expect(await order.end()).toBe('canceled');
    for (const held of [charge, refund]) held.open();
    expect(await order.row()).toMatchObject({ cancel_reason: 'first' });
    expect(await bed.books(order.id)).toMatchObject({ charges: ['refunded'] });
  });

  test('with an undecided address change: the next run decides it, under the same id', async () => {
    const dispatch = gate();
    const order = await bed.placeApproved(anOrder({ address: UNREACHABLE }), {
      faults: { dispatch: inFirstAttempt(dispatch.before) },
    });
    await dispatch.reached;
    const update = await accepted(order, 'address', BOSTON, 'move');
    await fillHistory(order);
    await expect(update.result()).rejects.toMatchObject({ cause: { type: 'AcceptedUpdateCompletedWorkflow' } });
    expect(await order.update('address', [UNREACHABLE], 'move')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('shipped');
    dispatch.open();
    expect((await bed.books(order.id)).parcel).toMatchObject({ address: BOSTON });
  });

  test.for(['by update', 'through Temporal'])('with an undecided cancel %s: the next run decides it', async (how) => {
    const [dispatch, close] = [gate(), gate()];
    const faults = { dispatch: dispatch.before, close: onlyFirst(close.before) };
    const order = await bed.placeApproved(anOrder(), { faults });
    await dispatch.reached;
    if (how === 'by update') await accepted(order, 'cancel', 'changed my mind', 'cancel');
    else await order.handle.cancel();
    await close.reached;
    await fillHistory(order);
    if (how === 'by update') expect(await order.update('cancel', [], 'cancel')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    for (const held of [dispatch, close]) held.open();
    const cancel_reason = how === 'by update' ? 'changed my mind' : 'temporal_cancel';
    expect(await order.row()).toMatchObject({ cancel_reason });
    expect(await bed.books(order.id)).toMatchObject({ charges: ['refunded'], parcel: { status: 'closed' } });
  });
});

describe.each([
  ['cached workflows', cached],
  ['workflows that replay at every task', replaying],
])('signals that have the server end a workflow task during a local activity, with %s,', (_, bed) => {
  test.for<['received' | 'charged', string, number, number]>([
    ['received', 'few large', 4, 1_900_000],
    ['received', 'many small', 250, 1],
    ['charged', 'few large', 4, 1_900_000],
    ['charged', 'many small', 250, 1],
  ])('while the order is %s, %s ones: a cancel among them is not lost', async ([when, , times, size]) => {
    const given = anOrder();
    const holder = await createConnection(bed.databaseUrl);
    onTestFinished(() => holder.end());
    const charge = gate();
    const taskIsOpen = async () => {
      const [run] = await order.runs();
      return run?.events.findLast((event) => event.workflowTaskStartedEventAttributes);
    };
    await holder.query('BEGIN');
    // The order's own row can't be inserted before this transaction has ended.
    if (when === 'received')
      await holder.query(
        "INSERT INTO orders (id, state, step, workflow_id, run_id) VALUES (?, 'received', 'init', '', '')",
        [given.order_id],
      );
    const order = await bed.placeApproved(given, { faults: { charge: charge.before } });
    await (when === 'received' ? eventually(taskIsOpen) : charge.reached);
    const ended = async () => {
      const [run] = await order.runs();
      return run?.events.some(({ workflowTaskFailedEventAttributes: failed }) => failed && !failed.failure);
    };
    const flood = () => repeated(times / 2, 20, () => order.handle.signal('no_such_signal', 'x'.repeat(size)));
    await flood();
    await order.signal('cancel', 'in a flood');
    await flood();
    expect(await ended()).toBe(true);
    await holder.query('ROLLBACK');
    charge.open();
    expect(await order.end()).toBe('canceled');
    expect(await order.row()).toMatchObject({ cancel_reason: 'in a flood' });
    expect((await bed.books(order.id)).charges).not.toContain('charged');
  });
});

describe('one order takes in', () => {
  test('a limited number of address changes; an approval and a cancel still fit', async () => {
    const order = await production();
    for (let n = 0; n < COMMAND_LIMITS.addressChanges; n += 1)
      await order.update('address', [n % 2 ? { ...BOSTON, line1: `${n}` } : null]).catch(() => undefined);
    expect(await refusal(order.update('address', [BOSTON]))).toMatchObject({ code: 'TOO_MANY' });
    const length = await historyLength(order);
    expect(await refusal(order.update('address', [BOSTON]))).toMatchObject({ code: 'TOO_MANY' });
    expect(await historyLength(order)).toBe(length);
    await order.signal('address', BOSTON, 'one-too-many');
    expect(await order.update('approve')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('shipped');
    expect(await refusals(order)).toMatchObject([{ command: 'address', id: 'one-too-many', code: 'TOO_MANY' }]);
  });

  test('a limited number of waiting address changes by update, and more by signal; a cancel still fits', async () => {
    const dispatch = gate();
    const order = await cached.placeApproved(anOrder(), { faults: { dispatch: dispatch.before } });
    await dispatch.reached;
    const { undecided, addressChanges, recordedRefusals } = COMMAND_LIMITS;
    for (let n = 0; n < undecided; n += 1) await order.signal('address', BOSTON, `waiting-${n}`);
    expect(await refusal(order.update('address', [BOSTON]))).toMatchObject({ code: 'TOO_MANY' });
    for (let n = undecided; n <= addressChanges; n += 1) await order.signal('address', BOSTON, `waiting-${n}`);
    expect(await order.update('cancel')).toMatchObject({ changed: true });
    expect(await order.end()).toBe('canceled');
    dispatch.open();
    const codes = (await refusals(order)).map(({ id, code }) => `${id} ${code}`);
    expect(codes.filter((code) => code.endsWith('TOO_MANY'))).toEqual([`waiting-${addressChanges} TOO_MANY`]);
    expect(codes.filter((code) => code.endsWith('TOO_LATE'))).toHaveLength(recordedRefusals - 1);
  });

  test('a limited number of repetitions; later ones get the same answer and leave no trace', async () => {
    const charge = gate();
    const order = await production({ charge: charge.before });
    await order.update('approve');
    for (let n = 0; n < COMMAND_LIMITS.repetitions; n += 1)
      expect(await order.update('approve')).toMatchObject({ changed: false });
    const length = await historyLength(order);
    const later = await order.update('approve').catch((error: unknown) => error);
    expect(later).toBeInstanceOf(WorkflowUpdateFailedError);
    expect(later).toMatchObject({
      cause: { type: 'NO_CHANGE', details: [{ command: 'approve', state: 'approved', changed: false }] },
    });
    expect(await historyLength(order)).toBe(length);
    charge.open();
    expect(await order.end()).toBe('shipped');
  });

  test('a limited number of signals of one name in a run', async () => {
    const order = await production();
    for (let n = 1; n <= 260; n += 1) await order.handle.signal('dispatch_failed', `${n}`);
    expect(await order.status()).toMatchObject({ dispatch_failed_reason: '250' });
    await order.update('cancel');
    expect(await order.end()).toBe('canceled');
  });

  test('a limited number of refused signals as events', async () => {
    const order = await production();
    for (let n = 0; n < COMMAND_LIMITS.recordedRefusals + 30; n += 1) await order.signal('address', null, `bad-${n}`);
    await order.update('cancel');
    expect(await order.end()).toBe('canceled');
    expect(await refusals(order)).toHaveLength(COMMAND_LIMITS.recordedRefusals);
  });
});

test('an order that took in more signals at once under a version without bounds continues under this one', async () => {
  const own = await ownTestbed({ queues: [], clock: 'real' });
  const given = anOrder();
  const order = await own.place(given, { args: [{ ...given, policy: 'production' }] });
  for (let n = 1; n <= 40; n += 1) await order.signal('address', { ...BOSTON, line1: `${n}` });
  const floods = 'workers/workflows/signal-floods.ts';
  const older = await bundleEdited({
    'workers/workflows/bounds.ts': (text) => text.replace("patched('bounds')", 'false'),
  });
  const newer = await bundleEdited({
    [floods]: (text) => text.replace('MAX_SIGNALS_OF_A_NAME = 250', 'MAX_SIGNALS_OF_A_NAME = 20'),
  });
  const stop = await own.startWorkersOf(older, 'orders');
  await awaitingApproval(order);
  await eventually(async () => (await order.row()).address?.line1 === '40');
  await stop();
  await own.startWorkersOf(newer, 'orders', 'shipping');
  expect(await order.update('approve')).toMatchObject({ changed: true });
  expect(await order.end()).toBe('shipped');
  expect(await own.violations()).toEqual([]);
});

test('an order that receives many large addresses before its first task continues as new, and ships', async () => {
  const own = await ownTestbed({ queues: [], clock: 'real' });
  const order = await own.place();
  const large = { line1: '汉'.repeat(15_950), city: '汉' };
  for (let n = 0; n < 84; n += 1) await order.signal('address', large);
  await order.signal('approve');
  await own.startWorkers('orders', 'shipping');
  expect(await order.end()).toBe('shipped');
  expect((await order.runs()).length).toBeGreaterThan(1);
  expect(await own.violations()).toEqual([]);
});

test('an order that continues as new before its first step keeps the deadline of its start', async () => {
  const own = await ownTestbed({ queues: [], clock: 'real' });
  const order = await own.place(anOrder({ address: UNREACHABLE }));
  for (let n = 0; n < 4; n += 1) await order.handle.signal('no_such_signal', 'x'.repeat(1_900_000));
  await order.signal('approve');
  const { startTime } = await order.handle.describe();
  await sleep(6_000);
  await own.startWorkers('orders', 'shipping');
  expect(await order.end()).toBe('failed');
  const { closeTime } = await order.handle.describe();
  expect((await order.runs()).length).toBeGreaterThan(1);
  expect(Number(closeTime) - Number(startTime)).toBeLessThan(15_000);
});

test('an update larger than 2 MB that the workflow accepts ends the run', async () => {
  const own = await ownTestbed({ clock: 'real' });
  const order = await own.place();
  await awaitingApproval(order);
  const name: string = COMMANDS.address.temporal;
  void order.handle.executeUpdate(name, { args: [{ line1: 'x'.repeat(2_200_000) }] }).catch(() => undefined);
  await eventually(async () => (await order.handle.describe()).status.name === 'TERMINATED', 10_000);
});

test('a second argument that a caller sends is ignored', async () => {
  const given = anOrder();
  const state = { approved: true, received: true, step: 'charge_payment', state: 'approved', policy: {} };
  const order = await cached.place(given, { args: [given, { run_id: 'x', state, applied: [], undecided: [] }] });
  expect(await order.end()).toBe('expired');
});

test('ten thousand commands leave an order decidable: from the API and from other callers, whether a worker runs or not', async () => {
  const own = await ownTestbed({ queues: [], clock: 'real' });
  const given = anOrder();
  const order = await own.place(given, {
    args: [{ ...given, policy: 'production' }],
    workflowTaskTimeout: WORKFLOW_TASK_TIMEOUT_MS.production,
  });
  const api = apiOn(own, createGrpcTemporal(own.realTimeClient));
  const send = (command: string, body: object) => api.post(`/orders/${order.id}/signals/${command}`, body);
  await repeated(2_000, 50, (n) => sendSignal(order, n));
  await own.startWorkers('orders', 'shipping');
  await eventually(async () => (await order.status()).step === 'awaiting_approval', 60_000);
  const answers = new Set<number>();
  await Promise.all([
    repeated(5_000, 40, (n) => sendSignal(order, n)),
    repeated(1_500, 5, (n) => sendUpdate(order, n)),
    repeated(1_500, 5, async (n) => {
      const { status } = await send('address', { address: { ...BOSTON, line1: `${n}` } });
      answers.add(status);
    }),
  ]);
  expect([...answers].filter((status) => ![200, 202, 409].includes(status))).toEqual([]);
  expect(await order.status()).toMatchObject({ step: 'awaiting_approval' });
  expect((await send('approve', {})).status).toBe(200);
  expect(await order.end()).toBe('shipped');
  const { parcel } = await own.books(order.id);
  expect(parcel?.address).toEqual((await order.row()).address);
  const runs = await order.runs();
  expect(runs.length).toBeGreaterThan(1);
  for (const { events } of runs)
    expect(events.filter((event) => !event.workflowExecutionSignaledEventAttributes).length).toBeLessThan(1_500);
  expect(await own.violations()).toEqual([]);
}, 120_000);

test('the orders of this file leave no violation', async () => {
  for (const bed of beds) expect(await bed.violations()).toEqual([]);
}, 120_000);

/** An order under the production policy that waits for its approval. */
async function production(faults: Partial<Record<'charge', Fault>> = {}): Promise<PlacedOrder> {
  const given = anOrder();
  const order = await cached.place(given, {
    args: [{ ...given, policy: 'production' }],
    workflowTaskTimeout: WORKFLOW_TASK_TIMEOUT_MS.production,
    faults,
  });
  await awaitingApproval(order);
  return order;
}

/** Calls `send` `times` times with 0, 1, 2, …, up to `atOnce` at a time. */
async function repeated(times: number, atOnce: number, send: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const sender = async () => {
    while (next < times) await send(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, sender));
}

/** Address changes, valid and not, and signals that are no command. */
function sendSignal(order: PlacedOrder, n: number): Promise<void> {
  if (n % 100 === 0) return order.handle.signal('dispatch_failed', `${n}`);
  if (n % 3 === 0) return order.signal('address', { ...BOSTON, line1: `${n}` });
  return n % 3 === 1 ? order.signal('address', null) : order.handle.signal('no_such_signal', n);
}

/** Address changes, valid and not, and updates that are no command. Most are refused. */
function sendUpdate(order: PlacedOrder, n: number): Promise<unknown> {
  const sent =
    n % 3 === 2 ? order.handle.executeUpdate('no_such_update') : order.update('address', n % 3 ? [null] : [BOSTON]);
  return sent.catch(() => undefined);
}

/** A command's update, once it is recorded in the history. */
const accepted = (order: PlacedOrder, command: Command, argument: unknown, updateId: string) =>
  order.handle.startUpdate<CommandAnswer, [unknown]>(COMMANDS[command].temporal, {
    args: [argument],
    updateId,
    waitForStage: 'ACCEPTED',
  });

const historyLength = async ({ handle }: PlacedOrder): Promise<number> => (await handle.describe()).historyLength;

const refusals = async (order: PlacedOrder) =>
  (await order.view()).events.flatMap(({ type, payload }) => (type === 'command_refused' && payload ? [payload] : []));

/** The durations of a history's timers, in milliseconds. */
const timers = (events: HistoryEvent[] = []): number[] =>
  events.flatMap(({ timerStartedEventAttributes: timer }) =>
    timer ? [Number(timer.startToFireTimeout?.seconds) * 1_000 + (timer.startToFireTimeout?.nanos ?? 0) / 1e6] : [],
  );
