/** The product with a Temporal server that demands proof of who calls: a worker, the API over both of Temporal's APIs, an order each. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '@temporalio/client';
import { isTerminal, type State } from '@trellis/contracts/states-and-steps';
import { orderWorkflowId } from '@trellis/contracts/temporal';
import { accepted, createShopper, type Shopper } from '@trellis/local/shopper';
import { startApi, startWorker } from '@trellis/local/stack/node-programs';
import { freePort, HOST } from '@trellis/local/stack/ports';
import type { Service } from '@trellis/local/stack/processes';
import { run } from '@trellis/local/stack/programs';
import { findTemporalCli } from '@trellis/local/stack/temporal-server';
import { ADMINISTRATOR, type Secured, withConnection } from './temporal.ts';

const ENDED_WITHIN_MS = 60_000;

/** The identities of the product's programs, and of who makes a version of the worker current. */
export const API = 'trellis-api';
export const WORKER = 'trellis-worker';
export const RELEASE = 'trellis-release';

interface Options {
  folder: string;
  /** The URL of a database that has the schema. */
  database: string;
  /** The worker's build id; unversioned when absent. */
  buildId?: string;
  say: (line: string) => void;
}

/** The id of the order that `shipThrough` ships through one of the APIs. */
export const orderThrough = (api: 'gRPC' | 'HTTP', { node }: Secured): string => `${node.service.name}-${api}`;

/**
 * Ships an order through each API, has one settled whose run was ended from outside, and shows that a caller without the proof gets nothing.
 * Throws an Error otherwise.
 */
export async function shipThrough(secured: Secured, { folder, database, buildId, say }: Options): Promise<string> {
  const { node, scheme, proofOf, stranger } = secured;
  const settings = { DATABASE_URL: database, FLAKY_CALL: 'off', POLICY: 'exercise' };
  const name = node.service.name;
  const addresses = { gRPC: node.address, HTTP: `${scheme}://${node.http}` };
  const running: Service[] = [];
  const api = async (of: string, TEMPORAL_ADDRESS: string, proof: NodeJS.ProcessEnv) => {
    const port = await freePort();
    running.push(
      await startApi({ folder, name: `${name} ${of}`, port, env: { ...settings, ...proof, TEMPORAL_ADDRESS } }),
    );
    return createShopper(`http://${HOST}:${port}`);
  };
  const ship = async (of: keyof typeof addresses): Promise<string> => {
    const order = orderCalled(orderThrough(of, secured));
    const turnedAway = await (await api(`${of} API of a stranger`, addresses[of], stranger.env)).start(order);
    if (turnedAway.said !== 'lost') throw new Error(`${of} API: a stranger's start was ${turnedAway.said}`);
    const shopper = await api(`${of} API`, addresses[of], proofOf(API).env);
    if (await shopper.get(order.order_id)) throw new Error(`${of} API: order ${order.order_id} is not new`);
    accepted(await shopper.start(order));
    const approved = await shopper.command(order.order_id, 'approve', {});
    if (approved.said === 'refused' || approved.said === 'lost') throw new Error(`${of} API: ${approved.message}`);
    await ends(shopper, order.order_id, 'shipped');
    return `${of} API: shipped; a stranger is answered "${turnedAway.message}"`;
  };
  const settle = async (): Promise<string> => {
    const order = orderCalled(`${name}-ended`);
    const shopper = await api('API', addresses.gRPC, proofOf(API).env);
    accepted(await shopper.start(order));
    await withConnection(secured, proofOf(ADMINISTRATOR), (connection) =>
      new Client({ connection }).workflow.getHandle(orderWorkflowId(order.order_id)).terminate(),
    );
    await ends(shopper, order.order_id, 'failed');
    return 'an order whose run was terminated: settled';
  };
  try {
    const version = buildId && { TEMPORAL_WORKER_BUILD_ID: buildId };
    const worker = { ...settings, ...proofOf(WORKER).env, TEMPORAL_ADDRESS: node.address, ...version };
    running.push(await startWorker({ folder, name: `${name} worker`, env: worker }));
    if (buildId) await makeCurrent(buildId, secured, say);
    return [await ship('gRPC'), await ship('HTTP'), await settle()].join('\n');
  } finally {
    await Promise.all(running.map((service) => service.stop()));
  }
}

const orderCalled = (order_id: string) => ({
  ...{ order_id, payment_id: `pay-${order_id}`, items: [{ sku: 'ABC', qty: 1 }] },
  address: { line1: '1 Main St', city: 'Chicago' },
});

/** Resolves once the order has ended in this state; throws an Error if it ends in another one, or does not end. */
async function ends(shopper: Shopper, orderId: string, expected: State): Promise<void> {
  let state: State | undefined;
  for (const end = Date.now() + ENDED_WITHIN_MS; !(state && isTerminal(state)) && Date.now() < end; await sleep(200))
    state = (await shopper.status(orderId)).state;
  if (state !== expected) throw new Error(`order ${orderId} is ${state}`);
}

/** With the command that docs/operations.md gives. The version exists once its worker has polled. */
async function makeCurrent(buildId: string, { node, proofOf }: Secured, say: (line: string) => void): Promise<void> {
  const cli = await findTemporalCli(say);
  const place = ['--address', node.address, '--deployment-name', 'trellis-orders', '--build-id', buildId];
  const env = { ...process.env, ...proofOf(RELEASE).env };
  for (const end = Date.now() + ENDED_WITHIN_MS; ; await sleep(500))
    try {
      return await run(cli, ['worker', 'deployment', 'set-current-version', ...place, '--yes'], { env });
    } catch (error) {
      if (Date.now() > end) throw error;
    }
}
