/** The allow-list of Temporal's callers (temporal-server/access.yaml) fits the product, and docs/temporal-access.md shows it. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createHttpTemporal } from '@trellis/api/temporal/http';
import type { TemporalPort } from '@trellis/api/temporal/port';
import { COMMAND_NAMES, COMMANDS } from '@trellis/contracts/commands';
import * as temporal from '@trellis/contracts/temporal';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { anOrder } from '../fixtures.ts';

/** The conditions of a rule, and how the page words them. */
const CONDITIONS = { workflows: '', types: 'type ', queues: 'on ', names: 'named ' } as const;
type Condition = keyof typeof CONDITIONS;
type Rule = { calls: string[] } & { [C in Condition]?: string[] };

const read = (path: string) => readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8');
const identities: Record<string, { namespace: string; allow: Rule[] }> = parse(read('temporal-server/access.yaml'));
const page = read('docs/temporal-access.md');
/** The rows of the table whose header begins with this cell. */
const tableOf = (header: string) => {
  const [, rows = ''] = page.split(new RegExp(`^\\| ${header} \\|.*\\n\\| ---.*\\n`, 'm'));
  return (
    rows
      .split('\n\n', 1)[0]
      ?.split('\n')
      .map((row) => row.replace(/^\| | \|$/g, '').split(' | ')) ?? []
  );
};

test('docs/temporal-access.md shows every rule of temporal-server/access.yaml', () => {
  const code = (texts: string[]) => texts.map((text) => `\`${text}\``).join(', ');
  const conditionsOf = (rule: Rule) =>
    Object.entries(CONDITIONS).flatMap(([name, word]) => {
      const texts = rule[name as Condition];
      return texts ? [`${word}${code(texts)}`] : [];
    });
  const rules = Object.entries(identities).flatMap(([identity, { allow }]) =>
    allow.map((rule) => [code([identity]), code(rule.calls), conditionsOf(rule).join(', ')]),
  );
  expect(tableOf('identity')).toEqual(rules);
});

test('temporal-server/access.yaml names the workflows, ids, queues and commands of the product', () => {
  const rules = Object.values(identities).flatMap(({ allow }) => allow);
  const ofProduct: Record<Condition, string[]> = {
    workflows: [
      temporal.orderWorkflowId('*'),
      temporal.settleWorkflowId('*'),
      temporal.eraseWorkflowId('*'),
      temporal.shippingWorkflowId('*', 1).replace(/-1$/, ''),
    ],
    types: Object.entries(temporal).flatMap(([name, value]) => (name.endsWith('_WORKFLOW') ? [`${value}`] : [])),
    queues: [temporal.ORDERS_QUEUE, temporal.SHIPPING_QUEUE],
    names: [temporal.STATUS_QUERY, ...COMMAND_NAMES.map((name) => COMMANDS[name].temporal)],
  };
  for (const condition of Object.keys(CONDITIONS) as Condition[]) {
    const named = rules.flatMap((rule) => rule[condition] ?? []);
    expect(named.filter((name) => !ofProduct[condition].includes(name))).toEqual([]);
  }
});

test('docs/temporal-access.md lists exactly the routes of Temporal’s HTTP API that the API calls', async () => {
  const called = new Set<string>();
  const port = createHttpTemporal({
    url: 'http://temporal.internal',
    namespace: 'default',
    fetch: async ({ method, url }) => {
      called.add(`${method} ${new URL(url).pathname}`);
      return Response.json({}, { status: 500 });
    },
  });
  const order = anOrder({ order_id: 'a:1' });
  const calls: Record<keyof TemporalPort, () => Promise<unknown>> = {
    start: () => port.start(order, 'hash'),
    find: () => port.find(order.order_id),
    update: () => port.update(order.order_id, 'cancel', [], 'id', 1_000),
    signal: () => port.signal(order.order_id, 'cancel', []),
    query: () => port.query(order.order_id, 1_000),
    erase: () => port.erase(order.order_id, { sub: 'jane', via: 'auth-off' }),
    ping: () => port.ping(1_000),
  };
  await Promise.allSettled(Object.values(calls).map((call) => call()));
  const asRoute = (path: string) =>
    path
      .replace('/namespaces/default', '/namespaces/{namespace}')
      .replace(/(order|erase)-a%3A1/, '$1-{id}')
      .replace(/\/(update|signal)\/\w+$/, '/$1/{command}');
  const documented = tableOf('route of the HTTP API').map(([route = '']) => route.replaceAll('`', ''));
  expect(documented.sort()).toEqual([...new Set([...called].map(asRoute))].sort());
});
