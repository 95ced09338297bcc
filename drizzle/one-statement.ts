/** Rows of several tables in one statement, and so in one round trip to the database. */
import { Column, is, type Placeholder, type SQL, sql } from 'drizzle-orm';
import { type MySqlColumn, type MySqlTable, unionAll } from 'drizzle-orm/mysql-core';
import type { SelectResultFields } from 'drizzle-orm/query-builders/select.types';
import type { Session } from './database.ts';

type Fields = Record<string, MySqlColumn | SQL>;

/** A select from one table; with `first` of at most so many rows. */
interface Part {
  fields: Fields;
  from: MySqlTable;
  where: SQL | undefined;
  first?: { by: SQL; most: number | Placeholder };
}

/**
 * Returns a function that runs the selects of all parts as one statement, with values for their placeholders. The rows of a part come
 * in no particular sequence. A column's values are decoded; any other expression's are as the driver returns them.
 *
 * The statement is a UNION ALL in which the fields of a part are NULL in the rows of the others, so that it mixes no types and no
 * collations. Its text is built once for each session.
 */
export function oneStatement<Parts extends Record<string, Part>>(parts: Parts) {
  const names = Object.keys(parts);
  const prepare = (session: Session) => {
    const [head, next, ...others] = Object.entries(parts).map(([name, { from, where, first }]) => {
      const select = session.select(fieldsOf(parts, name)).from(from).where(where).$dynamic();
      return first ? select.orderBy(first.by).limit(first.most) : select;
    });
    if (!head || !next) throw new Error('a union has two parts');
    const rest = [next, ...others].map((select) => select.getSQL());
    // Drizzle would nest the unions of more than two selects, and MariaDB makes a temporary table of each nested one.
    return unionAll(head, Object.assign(next, { getSQL: () => sql.join(rest, sql`) union all (`) })).prepare();
  };
  const prepared = new WeakMap<Session, ReturnType<typeof prepare>>();

  return async (session: Session, values: Record<string, string | number>) => {
    const statement = prepared.get(session) ?? prepare(session);
    prepared.set(session, statement);
    const rows = (await statement.execute(values)) as Record<string, unknown>[];
    return Object.fromEntries(
      names.map((name) => [name, rows.filter(({ part }) => part === name).map((row) => row[name])]),
    ) as { [Name in keyof Parts]: SelectResultFields<Parts[Name]['fields']>[] };
  };
}

/** The fields of every part, in an object for each; those of other parts than `own` are NULL. */
function fieldsOf(parts: Record<string, Part>, own: string): Record<string, SQL | Record<string, SQL>> {
  const nullsOf = (fields: Fields) =>
    Object.fromEntries(
      Object.entries(fields).map(([key, field]) => [key, is(field, Column) ? sql`NULL`.mapWith(field) : sql`NULL`]),
    );
  return Object.fromEntries([
    ['part', sql`${own}`],
    ...Object.entries(parts).map(([name, { fields }]) => [name, name === own ? fields : nullsOf(fields)]),
  ]);
}
