/** A program that can't start prints the reason in one line on stderr and exits with 1. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

async function run(program: string, variables: NodeJS.ProcessEnv): Promise<{ stderr: string; code: unknown }> {
  const script = fileURLToPath(new URL(`../../${program}`, import.meta.url));
  const child = spawn(process.execPath, [script], { env: { ...process.env, ...variables } });
  const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  return { stderr, code };
}

test('the API names PORT when the port is taken', async () => {
  const holder = createServer().listen(0, '127.0.0.1');
  onTestFinished(() => void holder.close());
  await once(holder, 'listening');
  const { port } = holder.address() as AddressInfo;
  const given = { DATABASE_URL: 'mysql://server/x', HOST: '127.0.0.1', PORT: `${port}` };
  const stderr = `PORT ${port} on 127.0.0.1 is already in use\n`;
  expect(await run('api/node.ts', given)).toEqual({ stderr, code: 1 });
});

test('the worker names TEMPORAL_ADDRESS and the namespace when it can’t reach Temporal', async () => {
  const given = { DATABASE_URL: 'mysql://server/x', TEMPORAL_ADDRESS: '127.0.0.1:1', TEMPORAL_NAMESPACE: 'orders' };
  const stderr = expect.stringMatching(/^TEMPORAL_ADDRESS \(127\.0\.0\.1:1\), namespace orders: .*refused.*\n$/);
  expect(await run('workers/main.ts', given)).toEqual({ stderr, code: 1 });
});
