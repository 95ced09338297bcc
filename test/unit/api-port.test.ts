import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

test('the API whose port is taken says so in one line that names PORT, and exits with 1', async () => {
  const holder = createServer().listen(0, '127.0.0.1');
  onTestFinished(() => void holder.close());
  await once(holder, 'listening');
  const { port } = holder.address() as AddressInfo;
  const env = { ...process.env, DATABASE_URL: 'mysql://nobody/x', HOST: '127.0.0.1', PORT: `${port}` };
  const api = spawn(process.execPath, [fileURLToPath(new URL('../../api/node.ts', import.meta.url))], { env });
  const [stderr, [code]] = await Promise.all([text(api.stderr), once(api, 'exit')]);
  expect({ stderr, code }).toEqual({ stderr: `PORT ${port} on 127.0.0.1 is already in use\n`, code: 1 });
});
