/** Generates the REST routes from the procedures; it is normally not edited: routes are declared in orders/router.ts. */
import { OrderError } from '@trellis/contracts/error';
import type { Context as HonoContext } from 'hono';
import { Hono } from 'hono/tiny';
import { invalid, invalidInput } from '../orders/errors.ts';
import { type Context, restProcedures } from '../orders/router.ts';
import { answerRefused, type Body } from './body.ts';
import { jsonResponse, problemResponse } from './responses.ts';

type Input = Record<string, unknown>;

/**
 * A route for every procedure whose meta names one. Path parameters and the query (GET) or the body (POST) are its input. `receive` reads a
 * request's body.
 */
export function createRest(
  contextOf: (c: HonoContext) => Promise<Context>,
  receive: (request: Request) => Promise<Body>,
): Hono {
  const rest = new Hono();
  for (const { meta, call } of restProcedures()) {
    const { method, path } = meta.rest;
    rest.on(method, path, async (c) => {
      const body = await receive(c.req.raw);
      if ('refusal' in body) return answerRefused(problemResponse(body.refusal), body.rest);
      const context = await contextOf(c);
      const fields = method === 'GET' ? queryOf(c.req.url) : bodyOf(body.text);
      const answer = await call(context, { ...fields, ...c.req.param() });
      if ('problems' in answer) return problemResponse(invalidInput(answer.problems));
      const { output } = answer;
      return jsonResponse(output, (output as { queued?: true }).queued ? 202 : 200);
    });
  }
  return rest;
}

/** The fields of a URL's query. Throws INVALID for a field that is given twice, as one of its values would be ignored. */
function queryOf(url: string): Input {
  if (!url.includes('?')) return {};
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
export function bodyOf(text: string): Input {
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
