import { openApiDocument } from '@trellis/api/http/openapi-from-router';
import { appRouter } from '@trellis/api/orders/router';
import { COMMAND_INPUTS } from '@trellis/contracts/command-inputs';
import { COMMAND_NAMES, COMMANDS } from '@trellis/contracts/commands';
import { expect, test } from 'vitest';

const { paths } = openApiDocument() as unknown as { paths: Record<string, { post?: { summary: string } }> };
const procedures = Object.keys(appRouter._def.procedures);

// workflow-commands.test.ts checks that the workflow has handlers for each command.
test.each(COMMAND_NAMES)('the command %s has an input schema, a tRPC procedure and a REST route', (name) => {
  const { procedure, path, argument, summary } = COMMANDS[name];
  expect(Object.keys(COMMAND_INPUTS[name].entries)).toEqual(['order_id', ...(argument === null ? [] : [argument])]);
  expect(procedures).toContain(`orders.signal.${procedure}`);
  expect(paths[`/orders/{order_id}/signals/${path}`]?.post).toMatchObject({ summary });
});

test('no two commands share a name in Temporal, a procedure or a path', () => {
  for (const key of ['temporal', 'procedure', 'path'] as const) {
    const values = COMMAND_NAMES.map((name) => COMMANDS[name][key]);
    expect(new Set(values).size, key).toBe(values.length);
  }
});
