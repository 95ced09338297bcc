/** A caller that sends one order thousands of commands, valid and not, over the API and directly to Temporal. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { recordedId } from '@trellis/contracts/id';
import type { OrderInput } from '@trellis/contracts/order';
import { ORDER_WORKFLOW, ORDERS_QUEUE, orderWorkflowId } from '@trellis/contracts/temporal';
import { type Answer, createShopper, type Shopper } from '@trellis/local/shopper';
import { SHOP, type Tokens } from '@trellis/local/stack/callers';

export interface Flood {
  order: OrderInput;
  /** The API's answers to the address changes. */
  changes: Answer[];
  /** Signals and updates that Temporal took. */
  taken: number;
  /** The API's answer to the approval that followed. */
  approval: Answer;
}

const API_CALLERS = 4;
const SIGNALS_AT_ONCE = 50;
/** Temporal refuses a payload above 2 MB. */
const HUGE = 'x'.repeat(1_900_000);
/** A run whose history reaches 50 MB is ended by Temporal, so there are few huge ones and many of these. */
const LARGE = 'x'.repeat(2_000);
const CALL_TIMEOUT_MS = 5_000;
const CHICAGO = { line1: '1 Main St', city: 'Chicago' };

/** What a caller of Temporal can signal. */
const SIGNALS: [name: string, argument: unknown][] = [
  ['update_address', { line1: '9 Elm', city: 'Boston' }],
  ['update_address', null],
  ['update_address', { line1: LARGE, city: ['Boston'] }],
  ['dispatch_failed', LARGE],
  ['no_such_signal', 'x'],
];

/**
 * Starts an order that waits a day for its approval, sends it commands for `forMs` milliseconds, and then approves it through
 * `shopper`. The servers may fail meanwhile: a call that fails is not repeated. Rejects when the order can't be started.
 */
export async function floodOrder(options: {
  order_id: string;
  temporal: string;
  api: string;
  /** If the API asks for tokens. */
  tokens: Tokens | undefined;
  shopper: Shopper;
  forMs: number;
}): Promise<Flood> {
  const { order_id, temporal, api, tokens, shopper, forMs } = options;
  const order: OrderInput = {
    order_id,
    payment_id: `pay-${order_id}`,
    address: CHICAGO,
    items: [{ sku: 'ABC', qty: 1 }],
    policy: 'production',
  };
  const connection = await Connection.connect({ address: temporal });
  const client = createTemporalClient(connection);
  const recorded = (id: string) => recordedId(tokens ? SHOP : '', id);
  const argument = { ...order, order_id: recorded(order_id), payment_id: recorded(order.payment_id) };
  const start = { workflowId: orderWorkflowId(recorded(order_id)), taskQueue: ORDERS_QUEUE, args: [argument] };
  const run = await client.workflow.start(ORDER_WORKFLOW, start);

  const end = Date.now() + forMs;
  const changes: Answer[] = [];
  let taken = 0;
  const once = createShopper(api, { timeoutMs: CALL_TIMEOUT_MS, tokens });
  const changeAddress = async (caller: number) => {
    for (let n = 0; Date.now() < end; n += 1)
      changes.push(
        await once.command(order_id, 'address', { address: { line1: `${n} Birch`, city: `Boston ${caller}` } }),
      );
  };
  const toTemporal = async (call: () => Promise<unknown>) => {
    const done = client.withDeadline(Date.now() + CALL_TIMEOUT_MS, call).then(
      () => true,
      () => false,
    );
    if (await done) taken += 1;
  };
  const signal = async () => {
    while (Date.now() < end) {
      const sending = Array.from({ length: SIGNALS_AT_ONCE }, (_, n) => {
        const [name, argument] = SIGNALS[n % SIGNALS.length] ?? ['approve', null];
        return toTemporal(() => run.signal(name, argument));
      });
      await Promise.all(sending);
    }
  };
  const sendHuge = async () => {
    while (Date.now() < end) {
      const argument = { line1: HUGE, city: 'Boston' };
      for (const name of ['update_address', 'no_such_update'])
        await toTemporal(() => run.executeUpdate(name, { args: [argument] }));
      await toTemporal(() => run.signal('update_address', argument));
      await sleep(500);
    }
  };
  try {
    await Promise.all([
      ...Array.from({ length: API_CALLERS }, (_, caller) => changeAddress(caller)),
      signal(),
      sendHuge(),
    ]);
    return { order, changes, taken, approval: await shopper.command(order_id, 'approve', {}) };
  } finally {
    await connection.close();
  }
}
