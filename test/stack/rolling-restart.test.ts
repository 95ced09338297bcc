/** Processes come and go: a restart of every API and every worker, one after the other, fails no request and no order. */
import { Agent, type IncomingMessage, request } from 'node:http';
import { json } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OrderStatus } from '@trellis/contracts/order-status';
import { startApi, startWorker } from '@trellis/local/stack/node-programs';
import { freePort } from '@trellis/local/stack/ports';
import type { Service } from '@trellis/local/stack/processes';
import { afterAll, expect, inject, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';
import { need } from '../servers.ts';

const { TEMPORAL_ADDRESS, DATABASE_URL, built } = await need('temporal', 'database', 'programs');
// Under the production policy no order is turned away and none expires.
const env = { DATABASE_URL, TEMPORAL_ADDRESS, POLICY: 'production', FLAKY_CALL: 'off' };
const folder = inject('folder');
const running = new Set<Service>();
afterAll(() => Promise.all([...running].map((service) => service.stop())));

async function run(starting: Promise<Service>): Promise<Service> {
  const service = await starting;
  running.add(service);
  return service;
}

/** Stops it as an orchestrator does, and resolves with what replaces it. */
async function replace(service: Service, start: (name: string) => Promise<Service>): Promise<Service> {
  process.kill(service.pid, 'SIGTERM');
  await service.exited;
  running.delete(service);
  return run(start(`${service.name}-again`));
}

const ports = [await freePort(), await freePort()];
const api = (port: number) => (name: string) => startApi({ folder, built, name, port, env });
const worker = (name: string) => startWorker({ folder, built, name, env });

const agents = new Map(ports.map((port) => [port, new Agent({ keepAlive: true })]));
let turn = 0;

/** A call to one of the APIs; only when there is no connection to it, to the other, as load balancers do. Rejects on any other failure, and any error but 202. */
async function call(method: string, path: string, body?: unknown): Promise<unknown> {
  turn += 1;
  const [first = 0, second = 0] = turn % 2 ? ports : ports.toReversed();
  const answer = await send(first, method, path, body).catch((error) => {
    // Refused, or reset before it was made: no request was sent.
    if (error.syscall !== 'connect') throw error;
    return send(second, method, path, body);
  });
  const content = await json(answer);
  if (answer.statusCode !== 200 && answer.statusCode !== 202)
    throw new Error(`${method} ${path}: ${answer.statusCode} ${JSON.stringify(content)}`);
  return content;
}

function send(port: number, method: string, path: string, body: unknown): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, method, path, agent: agents.get(port) }, resolve)
      .on('error', reject)
      .end(body === undefined ? undefined : JSON.stringify(body));
  });
}

test('a rolling restart of two APIs and two workers under load fails no request and loses no order', async () => {
  const [apis, workers] = await Promise.all([
    Promise.all(ports.map((port, n) => run(api(port)(`rolling-api-${n}`)))),
    Promise.all([0, 1].map((n) => run(worker(`rolling-worker-${n}`)))),
  ]);

  let loading = true;
  const buying: Promise<string>[] = [];
  async function buy(): Promise<string> {
    const { order_id, ...order } = anOrder();
    await call('POST', `/orders/${order_id}/start`, order);
    await call('GET', `/orders/${order_id}`);
    await call('POST', `/orders/${order_id}/signals/approve`);
    return order_id;
  }
  const load = (async () => {
    while (loading) {
      const order = buy();
      // Its failure is reported at the end.
      order.catch(() => undefined);
      buying.push(order);
      await sleep(200);
    }
  })();

  for (const n of [0, 1])
    await Promise.all([replace(apis[n] as Service, api(ports[n] as number)), replace(workers[n] as Service, worker)]);
  loading = false;
  await load;

  const orders = await Promise.all(buying);
  expect(orders.length).toBeGreaterThan(20);
  const states = await Promise.all(
    orders.map((order_id) =>
      eventually(
        async () => {
          const { state } = (await call('GET', `/orders/${order_id}/status`)) as OrderStatus;
          return state === 'shipped' && state;
        },
        60_000,
        500,
      ),
    ),
  );
  expect(new Set(states)).toEqual(new Set(['shipped']));
}, 120_000);
