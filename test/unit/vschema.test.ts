/** What Vitess is told of the tables agrees with their schemas, and with what the statements may change. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as sandbox from '@trellis/drizzle/sandbox/schema';
import * as product from '@trellis/drizzle/schema';
import { getTableColumns, is } from 'drizzle-orm';
import { getTableConfig, MySqlTable } from 'drizzle-orm/mysql-core';
import { describe, expect, test } from 'vitest';

interface Keyspace {
  sharded: boolean;
  vindexes?: Record<string, { params?: { table: string }; owner?: string }>;
  tables: Record<
    string,
    {
      type?: string;
      column_vindexes?: { column: string; name: string }[];
      auto_increment?: { column: string; sequence: string };
    }
  >;
}
const DRIZZLE = fileURLToPath(new URL('../../drizzle', import.meta.url));
const read = (path: string) => readFileSync(join(DRIZZLE, path), 'utf8');
const [sharded, global]: Keyspace[] = ['trellis', 'trellis_global'].map((keyspace) =>
  JSON.parse(read(`vschema/${keyspace}.json`)),
);
const { rules }: { rules: { from_table: string; to_tables: string[] }[] } = JSON.parse(
  read('vschema/routing-rules.json'),
);
const globalSql = read('vschema/trellis_global.sql');

const tables = Object.entries({ ...product, ...sandbox }).flatMap(([key, table]) => {
  if (!is(table, MySqlTable)) return [];
  const { name, columns } = getTableConfig(table);
  const orderId = name === 'orders' ? 'id' : columns.find((column) => column.name === 'order_id')?.name;
  const numbered = columns.find((column) => 'autoIncrement' in column && column.autoIncrement)?.name;
  const columnOf: Record<string, { name: string }> = getTableColumns(table);
  return [{ key, name, columns, columnOf, orderId, numbered }];
});
const ofOrders = tables.filter(({ orderId }) => orderId !== undefined);

const vindexesOf = (table: string) => sharded?.tables[table]?.column_vindexes ?? [];
/** Without its keyspace. */
const unqualified = (table = '') => table.replace(/^trellis_global\./, '');

test.each(ofOrders)('$name is sharded by the order’s id', ({ name, orderId }) => {
  expect(sharded?.sharded).toBe(true);
  expect(vindexesOf(name)[0]).toEqual({ column: orderId, name: 'by_order' });
});

test('no other table is sharded', () => {
  expect(Object.keys(sharded?.tables ?? {}).sort()).toEqual(ofOrders.map(({ name }) => name).sort());
});

test('every table without an order’s id is in the keyspace without shards, and its name leads there', () => {
  expect(global?.sharded).toBe(false);
  const others = tables.filter(({ orderId }) => orderId === undefined).map(({ name }) => name);
  expect(others).toContain('capacity');
  for (const name of others) {
    expect(global?.tables).toHaveProperty(name);
    expect(rules).toContainEqual({ from_table: `trellis.${name}`, to_tables: [`trellis_global.${name}`] });
  }
});

test('every column that counts up takes its numbers from a sequence, and no other does', () => {
  const inSchema = ofOrders.flatMap(({ name, numbered }) => (numbered ? [[name, numbered]] : []));
  expect(inSchema).not.toEqual([]);
  const inVschema = Object.entries(sharded?.tables ?? {}).flatMap(([name, { auto_increment: counted }]) =>
    counted ? [[name, counted.column]] : [],
  );
  expect(inVschema.sort()).toEqual(inSchema.sort());
  for (const [name = ''] of inSchema) {
    const sequence = unqualified(sharded?.tables[name]?.auto_increment?.sequence);
    expect(global?.tables[sequence], name).toEqual({ type: 'sequence' });
    expect(globalSql).toMatch(new RegExp(`CREATE TABLE ${sequence} .*'vitess_sequence'`));
    expect(globalSql).toContain(`INSERT INTO ${sequence} `);
  }
});

test('every payment id, which is unique over all shards, has a lookup table that exists', () => {
  const keys = ofOrders.filter(({ columns }) => columns.some(({ name, primary }) => name === 'payment_id' && primary));
  expect(keys.length).toBe(2);
  for (const { name } of keys) {
    const { name: vindex = '' } = vindexesOf(name).find(({ column }) => column === 'payment_id') ?? {};
    const { owner, params } = sharded?.vindexes?.[vindex] ?? {};
    expect(owner, name).toBe(name);
    expect(global?.tables).toHaveProperty(unqualified(params?.table));
    expect(globalSql).toContain(`CREATE TABLE ${unqualified(params?.table)} (`);
  }
});

/** Vitess refuses such a statement. */
describe('no insert that updates a row which exists sets a column of a vindex', () => {
  const statements = globSync('{*,sandbox/*}.ts', { cwd: DRIZZLE }).flatMap((file) =>
    [...read(file).matchAll(/\.insert\((\w+)\)(?:(?!\.insert\()[\s\S])*?\.onDuplicateKeyUpdate\((.*)\);/g)].map(
      ([, key = '', update = '']) => ({ file, key, update }),
    ),
  );

  test('every statement of that kind is found', () => {
    const all = globSync('{*,sandbox/*}.ts', { cwd: DRIZZLE }).flatMap(
      (file) => read(file).match(/onDuplicateKeyUpdate\(/g) ?? [],
    );
    expect(statements.length).toBe(all.length);
  });

  test.each(statements)('$file, $key', ({ key, update }) => {
    const table = tables.find((one) => one.key === key);
    expect(table).toBeDefined();
    const [, set = ''] = /\{ set: \{ (.*) \} \}/.exec(update) ?? [];
    const columns = set.split(', ').map((part) => table?.columnOf[part.split(':')[0] ?? '']?.name);
    expect(columns).toEqual(columns.map(() => expect.any(String)));
    for (const { column } of vindexesOf(`${table?.name}`)) expect(columns).not.toContain(column);
  });
});
