import { workflowBundle } from '@trellis/workers/workflow-bundle';
import { expect, test } from 'vitest';

test('the workflow bundle contains no schema library, database or client', async () => {
  const { code } = await workflowBundle();
  const [program = ''] = code.split('//# sourceMappingURL');
  const packages = new Set([...program.matchAll(/"\.\/node_modules\/((?:@[^/"]+\/)?[^/"]+)/g)].map(([, name]) => name));
  expect(packages).toContain('@temporalio/workflow');
  expect([...packages].filter((name) => /valibot|drizzle|mysql|pino|p-retry|client|worker$/.test(name ?? ''))).toEqual(
    [],
  );
});
