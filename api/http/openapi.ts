/** The REST API as an OpenAPI 3.1 document, made from the procedures, their schemas and the table of errors. */

import { IdempotencyKey } from '@trellis/contracts/command-input';
import { ERROR_CODES, ERRORS, type ErrorCode } from '@trellis/contracts/error';
import { Event } from '@trellis/contracts/event';
import { STATES } from '@trellis/contracts/lifecycle';
import { Address, Item, OrderSummary, OrderView } from '@trellis/contracts/order';
import { Payment } from '@trellis/contracts/payment';
import { Shipment } from '@trellis/contracts/shipment';
import { FailedAttempt, OrderStatus } from '@trellis/contracts/status';
import { type JsonSchema, toJsonSchema, toJsonSchemaDefs } from '@valibot/to-json-schema';
import * as v from 'valibot';
import { type Meta, restProcedures } from '../orders/router.ts';
import manifest from '../package.json' with { type: 'json' };

type Schema = v.GenericSchema;
/** The parts of the document are JSON, nothing more. */
type Json = Record<string, unknown>;

const Problem = v.object({
  type: v.literal('about:blank'),
  title: v.string(),
  status: v.pipe(v.number(), v.integer()),
  detail: v.string(),
  code: v.picklist(ERROR_CODES),
  errors: v.optional(v.array(v.object({ path: v.string(), message: v.string() }))),
  state: v.optional(v.picklist(STATES)),
  retry_after: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
});

/** Schemas that the document gives a name, wherever they stand. */
const NAMED = { Address, Item, Event, FailedAttempt, OrderStatus, OrderSummary, OrderView, Payment, Problem, Shipment };

const ANY_CALL: ErrorCode[] = ['INVALID', 'INTERNAL', 'UNAVAILABLE'];
const CALL_WITH_BODY: ErrorCode[] = ['INVALID_JSON', 'PAYLOAD_TOO_LARGE'];

/** What an error tells besides its code, for example. */
const EXAMPLES: Partial<Record<ErrorCode, Json>> = {
  INVALID: {
    detail: 'items.0.qty: must be at least 1',
    errors: [{ path: 'items.0.qty', message: 'must be at least 1' }],
  },
  NOT_FOUND: { detail: 'there is no order o-1001' },
  ORDER_CONFLICT: { detail: 'order o-1001 was started with another body' },
  TOO_LATE: { detail: 'too late: the order is shipped', state: 'shipped' },
  BUSY: { detail: 'the workers have all they can finish in time; try again in 3 s', retry_after: 3 },
  UNAVAILABLE: { detail: 'Temporal does not answer' },
};

const OPTIONS = {
  target: 'draft-2020-12',
  // What no schema can say, such as that text has whole characters, the API still checks.
  errorMode: 'ignore',
  overrideRef: ({ referenceId }: { referenceId: string }) => `#/components/schemas/${referenceId}`,
} as const;

/** Made once: it never changes while the program runs. */
let document: Json | undefined;

export function openApiDocument(): Json {
  document ??= {
    openapi: '3.1.0',
    info: {
      title: 'Trellis Orders',
      version: manifest.version,
      description: `An order through review, payment and shipping.\n\n${errorTable()}`,
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    paths: paths(),
    components: {
      schemas: toJsonSchemaDefs(NAMED, { ...OPTIONS, typeMode: 'output' }),
      responses: Object.fromEntries(ERROR_CODES.map((code) => [code, errorResponse(code)])),
    },
  };
  return document;
}

function paths(): Json {
  const all: Record<string, Json> = {
    '/health': {
      get: {
        operationId: 'health',
        summary: 'Whether the API runs; depends on nothing else',
        responses: { 200: success('Well', v.object({ ok: v.literal(true) })) },
      },
    },
  };
  for (const { name, meta, input, output } of restProcedures()) {
    const path = meta.rest.path.replace(/:(\w+)/g, '{$1}');
    all[path] = { ...all[path], [meta.rest.method.toLowerCase()]: operation(name, meta, input, output) };
  }
  return all;
}

function operation(name: string, { rest, summary, errors }: Meta, input: Schema, output: Schema): Json {
  const { properties = {}, required = [] } = inline(input, 'input');
  const inPath = [...rest.path.matchAll(/:(\w+)/g)].map(([, key = '']) => key);
  const elsewhere = Object.entries(properties).filter(([key]) => !inPath.includes(key));
  const isCommand = rest.path.includes('/signals/');
  const parameters = [
    ...inPath.map((key) => ({ name: key, in: 'path', required: true, schema: properties[key] })),
    ...(rest.method === 'GET'
      ? elsewhere.map(([key, schema]) => ({ name: key, in: 'query', required: required.includes(key), schema }))
      : []),
    ...(isCommand ? [idempotencyKey()] : []),
  ];
  const needed = required.filter((key) => !inPath.includes(key));
  const body = {
    type: 'object',
    properties: Object.fromEntries(elsewhere),
    ...(needed.length > 0 && { required: needed }),
  };
  const possible = [...ANY_CALL, ...(rest.method === 'POST' ? CALL_WITH_BODY : []), ...errors];
  return {
    operationId: name,
    summary,
    ...(parameters.length > 0 && { parameters }),
    ...(rest.method === 'POST' && {
      requestBody: { required: needed.length > 0, content: { 'application/json': { schema: body } } },
    }),
    responses: {
      ...successes(output, name === 'orders.start' ? { links: linksFromStart() } : {}),
      ...Object.fromEntries(
        possible.map((code) => [ERRORS[code].status, { $ref: `#/components/responses/${code}` }] as const),
      ),
    },
  };
}

const idempotencyKey = () => ({
  name: 'Idempotency-Key',
  in: 'header',
  description: "The command's id: sent again under the same id it is not done again, and gets the first answer.",
  schema: inline(IdempotencyKey, 'input'),
});

/** A command is decided, or kept for later. */
function successes(output: Schema, also: Json): Json {
  const { options } = output as { options?: Schema[] };
  const [now = output, later] = options ?? [];
  return {
    200: { ...success('Done', now), ...also },
    ...(later && { 202: success('Accepted, to be decided later', later) }),
  };
}

/** Whatever can be done with an order that has been started. */
function linksFromStart(): Json {
  const onOrder = restProcedures().filter(
    ({ name, meta }) => meta.rest.path.includes(':order_id') && name !== 'orders.start',
  );
  return Object.fromEntries(
    onOrder.map(({ name }) => [name, { operationId: name, parameters: { order_id: '$request.path.order_id' } }]),
  );
}

function success(description: string, schema: Schema): Json {
  return { description, content: { 'application/json': { schema: inline(schema, 'output') } } };
}

function errorResponse(code: ErrorCode): Json {
  const { status, title, retryable } = ERRORS[code];
  const example = { type: 'about:blank', title, status, detail: title, code, ...EXAMPLES[code] };
  return {
    description: `${code}: ${title}`,
    ...(retryable && {
      headers: { 'Retry-After': { description: 'Seconds', required: true, schema: { type: 'integer', minimum: 1 } } },
    }),
    content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' }, example } },
  };
}

function errorTable(): string {
  const rows = ERROR_CODES.map((code) => {
    const { status, title, retryable } = ERRORS[code];
    return `| ${code} | ${status} | ${title} | ${retryable ? 'yes' : 'no'} |`;
  });
  return ['| code | HTTP | meaning | worth trying again |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

function inline(schema: Schema, typeMode: 'input' | 'output'): JsonSchema & { properties?: Json; required?: string[] } {
  const { $schema, $defs, ...rest } = toJsonSchema(schema, { ...OPTIONS, typeMode, definitions: NAMED });
  return rest as ReturnType<typeof inline>;
}
