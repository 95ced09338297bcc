/** The product with a Temporal server that demands proof of who calls: a worker, the API over both of Temporal's APIs, an order each. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { accepted, createShopper } from '@trellis/local/shopper';
import { startApi, startWorker } from '@trellis/local/stack/node-programs';
import { freePort, HOST } from '@trellis/local/stack/ports';
import type { Service } from '@trellis/local/stack/processes';
import { run } from '@trellis/local/stack/programs';
import { findTemporalCli } from '@trellis/local/stack/temporal-server';
import type { Secured } from './temporal.ts';

const SHIPPED_WITHIN_MS = 60_000;

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

/** Ships an order through each API, and shows that a caller without the proof gets nothing. Throws an Error otherwise. */
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
    const order_id = orderThrough(of, secured);
    const order = {
      ...{ order_id, payment_id: `pay-${order_id}`, items: [{ sku: 'ABC', qty: 1 }] },
      address: { line1: '1 Main St', city: 'Chicago' },
    };
    const turnedAway = await (await api(`${of} API of a stranger`, addresses[of], stranger.env)).start(order);
    if (turnedAway.said !== 'lost') throw new Error(`${of} API: a stranger's start was ${turnedAway.said}`);
    const shopper = await api(`${of} API`, addresses[of], proofOf(API).env);
    accepted(await shopper.start(order));
    const approved = await shopper.command(order_id, 'approve', {});
    if (approved.said === 'refused' || approved.said === 'lost') throw new Error(`${of} API: ${approved.message}`);
    let { state } = await shopper.status(order_id);
    for (const end = Date.now() + SHIPPED_WITHIN_MS; !isTerminal(state) && Date.now() < end; await sleep(200))
      state = (await shopper.status(order_id)).state;
    if (state !== 'shipped') throw new Error(`${of} API: the order is ${state}`);
    return `${of} API: shipped; a stranger is answered "${turnedAway.message}"`;
  };
  try {
    const version = buildId && { TEMPORAL_WORKER_BUILD_ID: buildId };
    const worker = { ...settings, ...proofOf(WORKER).env, TEMPORAL_ADDRESS: node.address, ...version };
    running.push(await startWorker({ folder, name: `${name} worker`, env: worker }));
    if (buildId) await makeCurrent(buildId, secured, say);
    return [await ship('gRPC'), await ship('HTTP')].join('\n');
  } finally {
    await Promise.all(running.map((service) => service.stop()));
  }
}

/** With the command that docs/operations.md gives. The version exists once its worker has polled. */
async function makeCurrent(buildId: string, { node, proofOf }: Secured, say: (line: string) => void): Promise<void> {
  const cli = await findTemporalCli(say);
  const place = ['--address', node.address, '--deployment-name', 'trellis-orders', '--build-id', buildId];
  const env = { ...process.env, ...proofOf(RELEASE).env };
  for (const end = Date.now() + SHIPPED_WITHIN_MS; ; await sleep(500))
    try {
      return await run(cli, ['worker', 'deployment', 'set-current-version', ...place, '--yes'], { env });
    } catch (error) {
      if (Date.now() > end) throw error;
    }
}
