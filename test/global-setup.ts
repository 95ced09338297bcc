import { fileURLToPath } from 'node:url';
import { startProcess } from '@trellis/local/stack/processes';
import { type Addresses, freePort, startStack, throwAwayFolder } from '@trellis/local/stack/stack';
import { findTestServer } from '@trellis/local/stack/temporal-server';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** The stack that all test files share; it injects no faults. */
    addresses: Addresses;
    /** The ways to run the API; all of them serve that stack. */
    apis: { name: string; url: string }[];
    /** Where that stack keeps its logs. */
    folder: string;
    /** The time-skipping server's binary; empty leaves it to the SDK's download. */
    testServer: string;
  }
}

const ENVIRONMENT = { FLAKY_CALL: 'off', CORS_ORIGINS: 'https://shop.example' };
const say = (line: string) => process.stderr.write(`${line}\n`);

export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const { folder, remove } = await throwAwayFolder(say);
  const stack = await startStack({ folder, persistent: false, edge: true, env: ENVIRONMENT, say });
  const { addresses } = stack;
  const { TEMPORAL_HTTP_URL, PLANETSCALE_URL = '', EDGE_URL = '' } = addresses;
  const port = await freePort();
  const overHttp = await startProcess(folder, {
    name: 'api-over-http',
    command: process.execPath,
    args: [fileURLToPath(new URL('../api/node.ts', import.meta.url))],
    env: {
      ...process.env,
      ...ENVIRONMENT,
      PORT: `${port}`,
      HOST: '127.0.0.1',
      TEMPORAL_ADDRESS: TEMPORAL_HTTP_URL,
      DATABASE_URL: PLANETSCALE_URL,
    },
    ipc: true,
  });
  provide('addresses', addresses);
  provide('apis', [
    { name: 'Node, gRPC, mysql2', url: addresses.API_URL },
    { name: 'Node, HTTP, PlanetScale driver', url: `http://127.0.0.1:${port}` },
    { name: 'workerd, HTTP, PlanetScale driver', url: EDGE_URL },
  ]);
  provide('folder', folder);
  provide('testServer', (await findTestServer(say)) ?? '');
  return async () => {
    await overHttp.stop();
    await stack.stop();
    await remove();
  };
}
