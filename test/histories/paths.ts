/** The paths of an order whose histories are recorded: each terminal state, and the unusual events before it. */
import { readFile } from 'node:fs/promises';
import type { StartInput } from '@trellis/contracts/order';
import { ORDERS_QUEUE, SETTLE_WORKFLOW, settleWorkflowId, shippingWorkflowId } from '@trellis/contracts/temporal';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import {
  awaitingApproval,
  failsTwice,
  fillHistory,
  gate,
  hangs,
  type PlacedOrder,
  type PlaceOptions,
  type Testbed,
} from '../workflow-fixture.ts';

/** This code's version, which names the folder of its histories. */
export const { version: VERSION }: { version: string } = JSON.parse(
  await readFile(new URL('../../package.json', import.meta.url), 'utf8'),
);

/** Takes an order down its path to the end. The testbed has the real clock and no worker yet. */
export type Path = (bed: Testbed) => Promise<PlacedOrder>;

const UNREACHABLE = { line1: '123 Main', city: 'Unreachable' };
const BOSTON = { line1: '2 Birch', city: 'Boston' };
const attemptedToShip = (order: PlacedOrder, attempts: number) =>
  eventually(
    async () => (await order.status()).child_attempts >= attempts && (await order.status()).dispatch_failed_reason,
  );

/** Waits until the order has ended. */
async function ended(order: PlacedOrder): Promise<PlacedOrder> {
  await order.end();
  return order;
}

function underProduction(): [StartInput, PlaceOptions] {
  const given = anOrder();
  return [given, { args: [{ ...given, policy: 'production' }] }];
}

/** Runs the path with workers on both queues. */
const withWorkers =
  (path: Path): Path =>
  async (bed) => {
    const stop = await bed.startWorkers('orders', 'shipping');
    return path(bed).finally(stop);
  };

export const PATHS: Record<string, Path> = {
  shipped: withWorkers(async (bed) => {
    const order = await bed.place();
    await awaitingApproval(order);
    await order.update('approve');
    return ended(order);
  }),

  expired: withWorkers(async (bed) => ended(await bed.place())),

  'canceled before it was approved': withWorkers(async (bed) => {
    const order = await bed.place();
    await awaitingApproval(order);
    await order.update('cancel', ['changed my mind']);
    return ended(order);
  }),

  'canceled while it was charged': withWorkers(async (bed) => {
    const charge = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.after } });
    await charge.reached;
    await order.update('cancel');
    await ended(order);
    charge.open();
    return order;
  }),

  'canceled in a flood of signals that ended a workflow task while it was charged': withWorkers(async (bed) => {
    const charge = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.after } });
    await charge.reached;
    for (let sent = 0; sent < 150; sent += 1) await order.handle.signal('no_such_signal');
    await order.update('cancel');
    await ended(order);
    charge.open();
    return order;
  }),

  'canceled during the dispatch': withWorkers(async (bed) => {
    const dispatch = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { dispatch: dispatch.before } });
    await dispatch.reached;
    await order.update('cancel');
    await ended(order);
    dispatch.open();
    return order;
  }),

  'canceled too late': withWorkers(async (bed) => {
    const dispatch = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { dispatch: dispatch.after } });
    await dispatch.reached;
    await order.update('cancel').catch(() => undefined);
    dispatch.open();
    return ended(order);
  }),

  'canceled through Temporal': withWorkers(async (bed) => {
    const order = await bed.place();
    await awaitingApproval(order);
    await order.handle.cancel();
    return ended(order);
  }),

  'failed: INVALID_ORDER': withWorkers(async (bed) => {
    const given = anOrder();
    return ended(await bed.place(given, { args: [{ ...given, items: null }] }));
  }),

  'failed: PAYMENT_DECLINED': withWorkers(async (bed) =>
    ended(await bed.placeApproved(anOrder({ payment_id: freshId('declined') }))),
  ),

  'failed: PAYMENT_CONFLICT': withWorkers(async (bed) => {
    const first = await ended(await bed.placeApproved());
    return ended(await bed.placeApproved(anOrder({ payment_id: first.order.payment_id })));
  }),

  'failed: CARRIER_REFUSED': withWorkers(async (bed) =>
    ended(await bed.placeApproved(anOrder({ address: UNREACHABLE }))),
  ),

  'failed: DEADLINE': withWorkers(async (bed) =>
    ended(await bed.placeApproved(anOrder(), { faults: { charge: hangs } })),
  ),

  'shipped at the third attempt, to another address': withWorkers(async (bed) => {
    const order = await bed.placeApproved(anOrder({ address: UNREACHABLE }));
    await attemptedToShip(order, 2);
    await order.update('address', [BOSTON]);
    return ended(order);
  }),

  'address changed at the review, by signal and by update': withWorkers(async (bed) => {
    const order = await bed.place();
    await awaitingApproval(order);
    await order.signal('address', BOSTON);
    await order.update('address', [{ ...BOSTON, line1: '3 Birch' }]);
    await order.update('approve');
    return ended(order);
  }),

  'commands repeated, malformed and refused': withWorkers(async (bed) => {
    const dispatch = gate();
    const order = await bed.place(anOrder(), { faults: { dispatch: dispatch.after } });
    await awaitingApproval(order);
    await order.signal('address', { line1: 7 }, 'first');
    await order.update('address', [null]).catch(() => undefined);
    await order.signal('approve', 'second');
    await order.update('approve', [], 'second');
    await dispatch.reached;
    await order.signal('cancel', null, 'third');
    dispatch.open();
    return ended(order);
  }),

  'addresses that waited together for a refused attempt': withWorkers(async (bed) => {
    const dispatch = gate();
    const order = await bed.placeApproved(anOrder({ address: UNREACHABLE }), {
      faults: { dispatch: dispatch.afterFirst },
    });
    await dispatch.reached;
    await order.signal('address', { city: 'no street' });
    await order.signal('address', BOSTON);
    dispatch.open();
    return ended(order);
  }),

  'calls that fail before they succeed': withWorkers(async (bed) =>
    ended(await bed.placeApproved(anOrder(), { faults: { charge: failsTwice, dispatch: failsTwice } })),
  ),

  'a shipping attempt terminated from outside': withWorkers(async (bed) => {
    const dispatch = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { dispatch: dispatch.before } });
    await dispatch.reached;
    await order.handle.client.getHandle(shippingWorkflowId(order.id, 1)).terminate();
    dispatch.open();
    return ended(order);
  }),

  'production’s rules': withWorkers(async (bed) => {
    const order = await bed.place(...underProduction());
    await awaitingApproval(order);
    await order.update('approve');
    return ended(order);
  }),

  'continued as new in the review': withWorkers(async (bed) => {
    const order = await bed.place(...underProduction());
    await awaitingApproval(order);
    await order.update('address', [BOSTON], 'first');
    await fillHistory(order, 'many small');
    await order.update('approve');
    return ended(order);
  }),

  'continued as new during an attempt, with undecided commands': withWorkers(async (bed) => {
    const [dispatch, close] = [gate(), gate()];
    const faults = { dispatch: dispatch.before, close: close.before };
    const [given, options] = underProduction();
    const order = await bed.placeApproved(given, { ...options, faults });
    await dispatch.reached;
    await order.signal('address', BOSTON, 'first');
    await order.signal('cancel', 'changed my mind', 'second');
    await close.reached;
    await fillHistory(order, 'many small');
    close.open();
    await ended(order);
    dispatch.open();
    return order;
  }),

  'a second run': withWorkers(async (bed) => {
    const first = await ended(await bed.placeApproved());
    return ended(await bed.place(first.order, { workflowIdReusePolicy: 'ALLOW_DUPLICATE' }));
  }),

  'settled after its run was terminated': withWorkers(async (bed) => {
    const dispatch = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { dispatch: dispatch.before } });
    await dispatch.reached;
    await order.handle.terminate();
    const settling = await order.handle.client.start(SETTLE_WORKFLOW, {
      workflowId: settleWorkflowId(order.id),
      taskQueue: ORDERS_QUEUE,
      args: [{ order_id: order.id }],
    });
    await settling.result();
    dispatch.open();
    return order;
  }),

  'approved before its first workflow task, by a command that was queued': async (bed) => {
    const order = await bed.place();
    await order.signal('approve', 'queued');
    const stop = await bed.startWorkers('orders', 'shipping');
    return ended(order).finally(stop);
  },

  'worker restarted in the middle': async (bed) => {
    const stopFirst = await bed.startWorkers('orders', 'shipping');
    const charge = gate();
    const order = await bed.placeApproved(anOrder(), { faults: { charge: charge.before } });
    await charge.reached;
    await stopFirst();
    charge.open();
    const stop = await bed.startWorkers('orders', 'shipping');
    return ended(order).finally(stop);
  },

  'no shipping worker until it was too late': async (bed) => {
    const stop = await bed.startWorkers('orders');
    return ended(await bed.placeApproved()).finally(stop);
  },
};

/** The file name of a path's history. `part`: empty for the order's first run; else a later run's, a shipping attempt's or the SettleWorkflow's. */
export const fileOf = (path: string, part = ''): string =>
  `${path.replace(/[^\w]+/g, '-').toLowerCase()}${part && `.${part}`}.json`;
