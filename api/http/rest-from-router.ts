/** Generates the REST routes from the procedures; it is normally not edited: routes are declared in orders/router.ts. */
import { OrderError } from '@trellis/contracts/error';
import type { Context as HonoContext } from 'hono';
import { Hono } from 'hono/tiny';
import { invalid } from '../orders/errors.ts';
import { type Context, createCaller, restProcedures } from '../orders/router.ts';
import type { Env } from './app.ts';

type Input = Record<string, unknown>;
type Call = (input: Input) => Promise<unknown>;

/** A route for every procedure whose meta names one. Path parameters and the query (GET) or the body (POST) are its input. */
export function createRest(contextOf: (c: HonoContext) => Context): Hono<Env> {
  const rest = new Hono<Env>();
  for (const { name, meta } of restProcedures()) {
    const { method, path } = meta.rest;
    rest.on(method, path, async (c) => {
      const fields = method === 'GET' ? queryOf(c.req.url) : bodyOf(c.get('body'));
      const output = await procedureOf(contextOf(c), name)({ ...fields, ...c.req.param() });
      return Response.json(output, { status: (output as { queued?: true }).queued ? 202 : 200 });
    });
  }
  return rest;
}

/** The procedure with this dotted name, bound to the context. */
function procedureOf(context: Context, name: string): Call {
  const caller = createCaller(context) as unknown as Record<string, unknown>;
  return name.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], caller) as Call;
}

/** The fields of a URL's query. Throws INVALID for a field that is given twice, as one of its values would be ignored. */
function queryOf(url: string): Input {
  const fields = new Map<string, string>();
  const repeated = new Set<string>();
  for (const [name, value] of new URL(url).searchParams) {
    if (fields.has(name)) repeated.add(name);
    fields.set(name, value);
  }
  if (repeated.size > 0) throw invalid([...repeated].map((path) => ({ path, message: 'must be given once' })));
  return Object.fromEntries(fields);
}

/** The body as an object; an empty body counts as `{}`. Throws INVALID_JSON or INVALID. */
function bodyOf(text: string): Input {
  if (text === '') return {};
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new OrderError('INVALID_JSON', 'the body is not JSON');
  }
  if (body === null || typeof body !== 'object' || Array.isArray(body))
    throw invalid([{ path: '', message: 'the body must be an object' }]);
  return body as Input;
}
