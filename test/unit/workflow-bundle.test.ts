import { workflowBundle } from '@trellis/workers/workflow-bundle';
import { expect, test } from 'vitest';

const { code } = await workflowBundle();
const [program = ''] = code.split('//# sourceMappingURL');

test('the workflow bundle contains no schema library, database or client', () => {
  const packages = new Set([...program.matchAll(/"\.\/node_modules\/((?:@[^/"]+\/)?[^/"]+)/g)].map(([, name]) => name));
  expect(packages).toContain('@temporalio/workflow');
  expect([...packages].filter((name) => /valibot|drizzle|mysql|pino|p-retry|client|worker$/.test(name ?? ''))).toEqual(
    [],
  );
});

test('the modules, which all workflows of a worker share, hold no state of a workflow', () => {
  const modules = program
    .split(/^\/\*\*\*\/ "(?=[^"]+":?$)/m)
    .filter((text) => /^\.\/(workers|contracts)\//.test(text));
  expect(modules.map((text) => text.split('"')[0])).toContain('./workers/workflows/order.ts');
  const variables = modules.flatMap(
    (text) => text.match(/^(let|var) .*|^const \w+ = (new (Weak)?(Map|Set)\b|\[\]|\{\}).*/gm) ?? [],
  );
  expect(variables).toEqual([]);
});
