/** Generates the REST routes from the procedures; it is normally not edited: routes are declared in orders/router.ts. */
import { OrderError } from '@trellis/contracts/error';
import { Hono, type Context as HonoContext } from 'hono';
import { invalid } from '../orders/errors.ts';
import { type Context, createCaller, restProcedures } from '../orders/router.ts';

type Input = Record<string, unknown>;
type Call = (input: Input) => Promise<unknown>;

/** A route for every procedure whose meta names one. Path parameters and the query (GET) or the body (POST) are its input. */
export function createRest(contextOf: (c: HonoContext) => Context): Hono {
  const rest = new Hono();
  for (const { name, meta } of restProcedures()) {
    const { method, path } = meta.rest;
    rest.on(method, path, async (c) => {
      const fields = method === 'GET' ? c.req.query() : await bodyOf(c.req.raw);
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

/** The body as an object; an empty body counts as `{}`. Throws INVALID_JSON or INVALID. */
async function bodyOf(request: Request): Promise<Input> {
  const text = await request.text();
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
