/** Temporal behind TLS that demands certificates: worker and API reach it with them, and say which variable is wrong. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { startApi, startWorker } from '@trellis/local/stack/node-programs';
import { freePort } from '@trellis/local/stack/ports';
import { afterAll, describe, expect, inject, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';
import { need } from '../servers.ts';
import { makeCertificates, SERVER_NAME, tlsProxy } from '../tls-proxy.ts';
import { openTestbed } from '../workflow-fixture.ts';

const { TEMPORAL_ADDRESS: plain, TEMPORAL_HTTP_URL } = await need('database', 'temporal');
const folder = inject('folder');
const certificates = makeCertificates(`${folder}/certificates`);
const { ca, client, stranger } = certificates;
const grpc = await tlsProxy(plain, certificates);
const http = await tlsProxy(new URL(TEMPORAL_HTTP_URL).host, certificates);
const bed = await openTestbed({ queues: [], clock: 'real' });
afterAll(async () => {
  grpc.close();
  http.close();
  await bed.close();
});

const RIGHT = {
  DATABASE_URL: bed.databaseUrl,
  TEMPORAL_ADDRESS: grpc.address,
  TEMPORAL_NAMESPACE: bed.env.namespace ?? '',
  TEMPORAL_TLS_CLIENT_CERT_PATH: client.cert,
  TEMPORAL_TLS_CLIENT_KEY_PATH: client.key,
  TEMPORAL_TLS_SERVER_CA_CERT_PATH: ca,
  TEMPORAL_TLS_SERVER_NAME: SERVER_NAME,
};

test('an order ships: the worker over gRPC, an API over gRPC and one over Temporal’s HTTP API, all with certificates', async () => {
  const ports = { grpc: await freePort(), http: await freePort() };
  const asText = {
    TEMPORAL_TLS_CLIENT_CERT_PATH: '',
    TEMPORAL_TLS_CLIENT_CERT_DATA: readFileSync(client.cert, 'utf8'),
    TEMPORAL_TLS_CLIENT_KEY_PATH: '',
    TEMPORAL_TLS_CLIENT_KEY_DATA: readFileSync(client.key, 'utf8'),
  };
  const programs = await Promise.all([
    startWorker({ folder, name: 'tls-worker', env: { ...RIGHT, FLAKY_CALL: 'off' } }),
    startApi({ folder, name: 'tls-api', port: ports.grpc, env: RIGHT }),
    startApi({
      folder,
      name: 'tls-api-over-http',
      port: ports.http,
      env: { ...RIGHT, ...asText, TEMPORAL_ADDRESS: `https://${http.address}` },
    }),
  ]);
  try {
    for (const port of Object.values(ports)) {
      const { order_id, ...order } = anOrder();
      const call = async (path: string, body?: unknown) => {
        const sent = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
        return (await fetch(`http://127.0.0.1:${port}/orders/${order_id}/${path}`, sent)).json();
      };
      expect(await call('start', order)).toMatchObject({ run_id: expect.any(String) });
      expect(await call('signals/approve', {})).toMatchObject({ ok: true });
      await eventually(async () => ((await call('status')) as { state: string }).state === 'shipped');
    }
  } finally {
    await Promise.all(programs.map((program) => program.stop()));
  }
});

describe.concurrent('a worker ends with one line that names the variable when', () => {
  test.for<[string, string, NodeJS.ProcessEnv]>([
    [
      'the server does not know its certificate',
      'TEMPORAL_TLS_CLIENT_CERT_PATH',
      { TEMPORAL_TLS_CLIENT_CERT_PATH: stranger.cert, TEMPORAL_TLS_CLIENT_KEY_PATH: stranger.key },
    ],
    [
      'it has no certificate',
      'TEMPORAL_TLS_CLIENT_CERT_PATH',
      { TEMPORAL_TLS_CLIENT_CERT_PATH: '', TEMPORAL_TLS_CLIENT_KEY_PATH: '' },
    ],
    [
      'it does not know the server’s authority',
      'TEMPORAL_TLS_SERVER_CA_CERT_PATH',
      { TEMPORAL_TLS_SERVER_CA_CERT_PATH: stranger.cert },
    ],
    ['the server has another name', 'TEMPORAL_TLS_SERVER_NAME', { TEMPORAL_TLS_SERVER_NAME: 'elsewhere' }],
    ['the server has no TLS', 'TEMPORAL_TLS', { TEMPORAL_ADDRESS: plain }],
    ['the namespace does not exist', 'TEMPORAL_NAMESPACE', { TEMPORAL_NAMESPACE: 'no-such-namespace' }],
  ])('%s', async ([, variable, wrong], { expect }) => {
    const script = fileURLToPath(new URL('../../workers/main.ts', import.meta.url));
    const child = spawn(process.execPath, [script], { env: { ...process.env, ...RIGHT, ...wrong } });
    const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'exit'), text(child.stdout)]);
    expect(stderr).toMatch(new RegExp(`^${variable} \\(.*\\): .*\n$`));
    expect(code).toBe(1);
  });
});
