import { bundleWorkflows } from '@trellis/workers/create-worker';
import { expect, test } from 'vitest';

test('the workflow bundle contains no schema library, database or client', async () => {
  const { code } = await bundleWorkflows();
  const [program = ''] = code.split('//# sourceMappingURL');
  const packages = new Set([...program.matchAll(/"\.\/node_modules\/((?:@[^/"]+\/)?[^/"]+)/g)].map(([, name]) => name));
  expect(packages).toContain('@temporalio/workflow');
  expect([...packages].filter((name) => /valibot|drizzle|mysql|pino|p-retry|client|worker$/.test(name ?? ''))).toEqual(
    [],
  );
});
