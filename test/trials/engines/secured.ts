/** The product with a Temporal server that demands proof of who calls: a worker, the API over both of Temporal's APIs, an order each. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isTerminal } from '@trellis/contracts/states-and-steps';
import { createShopper } from '@trellis/local/shopper';
import { startApi, startWorker } from '@trellis/local/stack/node-programs';
import { freePort, HOST } from '@trellis/local/stack/ports';
import type { Service } from '@trellis/local/stack/processes';
import type { Secured } from './temporal.ts';

const SHIPPED_WITHIN_MS = 60_000;

/** Ships an order through each API, and shows that a caller without the proof gets nothing. Throws an Error otherwise. */
export async function shipThrough(
  { node, scheme, env, stranger }: Secured,
  { folder, database }: { folder: string; database: string },
): Promise<string> {
  const settings = { DATABASE_URL: database, FLAKY_CALL: 'off', POLICY: 'exercise' };
  const name = node.service.name;
  const addresses = { 'gRPC API': node.address, 'HTTP API': `${scheme}://${node.http}` };
  const running: Service[] = [];
  const api = async (of: string, TEMPORAL_ADDRESS: string, proof: NodeJS.ProcessEnv) => {
    const port = await freePort();
    running.push(
      await startApi({ folder, name: `${name} ${of}`, port, env: { ...settings, ...proof, TEMPORAL_ADDRESS } }),
    );
    return createShopper(`http://${HOST}:${port}`);
  };
  const shipped: string[] = [];
  try {
    const worker = { ...settings, ...env, TEMPORAL_ADDRESS: node.address };
    running.push(await startWorker({ folder, name: `${name} worker`, env: worker }));
    for (const [of, address] of Object.entries(addresses)) {
      const order = {
        order_id: `${name}-${of.slice(0, 4)}`,
        payment_id: `pay-${name}-${of.slice(0, 4)}`,
        address: { line1: '1 Main St', city: 'Chicago' },
        items: [{ sku: 'ABC', qty: 1 }],
      };
      const turnedAway = await (await api(`${of} of a stranger`, address, stranger)).start(order);
      if (turnedAway.said !== 'lost') throw new Error(`${of}: a stranger's start was ${turnedAway.said}`);
      const shopper = await api(of, address, env);
      const started = await shopper.start(order);
      if (started.said !== 'accepted') throw new Error(`${of}: ${started.message}`);
      await shopper.command(order.order_id, 'approve', {});
      let state = (await shopper.status(order.order_id)).state;
      for (const end = Date.now() + SHIPPED_WITHIN_MS; !isTerminal(state) && Date.now() < end; await sleep(200))
        state = (await shopper.status(order.order_id)).state;
      if (state !== 'shipped') throw new Error(`${of}: the order is ${state}`);
      shipped.push(`${of}: shipped; a stranger is answered "${turnedAway.message}"`);
    }
  } finally {
    await Promise.all(running.map((service) => service.stop()));
  }
  return shipped.join('\n');
}
