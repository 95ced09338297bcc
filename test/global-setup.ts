import { type Addresses, startStack, throwAwayFolder } from '@trellis/local/stack';
import { findTestServer } from '@trellis/local/temporal-server';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** The stack that all test files share; it injects no faults. */
    addresses: Addresses;
    /** Where that stack keeps its logs. */
    folder: string;
    /** The time-skipping server's binary; empty leaves it to the SDK's download. */
    testServer: string;
  }
}

const say = (line: string) => process.stderr.write(`${line}\n`);

export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const { folder, remove } = await throwAwayFolder(say);
  const stack = await startStack({ folder, persistent: false, edge: true, env: { FLAKY_CALL: 'off' }, say });
  provide('addresses', stack.addresses);
  provide('folder', folder);
  provide('testServer', (await findTestServer(say)) ?? '');
  return async () => {
    await stack.stop();
    await remove();
  };
}
