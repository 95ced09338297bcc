/**
 * Generates the OpenAPI 3.1 document of the REST API from the procedures, their schemas and the table of errors. It is
 * normally not edited: routes are declared in orders/router.ts, schemas and their descriptions in contracts.
 */

import { IdempotencyKey, SignalDecided, SignalOutput, SignalQueued } from '@trellis/contracts/command-inputs';
import { COMMANDS, type Command } from '@trellis/contracts/commands';
import { ERROR_CODES, ERRORS, type ErrorCode, type ErrorDetailsByCode } from '@trellis/contracts/error';
import { Event, RecordedActor, RecordedEventPayload } from '@trellis/contracts/event';
import {
  Address,
  Item,
  ListOutput,
  OrderSummary,
  OrderView,
  RecordedItem,
  StartOutput,
} from '@trellis/contracts/order';
import { FailedAttempt, FailureReason, OrderStatus, State } from '@trellis/contracts/order-status';
import { Payment } from '@trellis/contracts/payment';
import { Actor, EventPayload, ShipmentPayload } from '@trellis/contracts/recorded-payloads';
import { SCOPES } from '@trellis/contracts/scopes';
import { RecordedAddress, RecordedShipmentPayload, Shipment } from '@trellis/contracts/shipment';
import { type JsonSchema, toJsonSchema, toJsonSchemaDefs } from '@valibot/to-json-schema';
import * as v from 'valibot';
import { type RestProcedure, restProcedures } from '../orders/router.ts';
import manifest from '../package.json' with { type: 'json' };

type Schema = v.GenericSchema;
/** A part of the document. */
type Json = Record<string, unknown>;

const Code = v.picklist(ERROR_CODES);

/** What every error carries; the component of each code adds its own details. */
const Problem = v.object({
  type: v.literal('about:blank'),
  title: v.string(),
  status: v.pipe(v.number(), v.integer()),
  detail: v.pipe(v.string(), v.description('A message for people.')),
  code: Code,
});

/** contracts' `Problem`: one violation of the input's schema. */
const FieldProblem = v.object({
  path: v.pipe(v.string(), v.description('Dotted, such as `items.0.qty`; empty for the body as a whole.')),
  message: v.string(),
});

const RetryAfter = v.pipe(v.number(), v.integer(), v.minValue(1), v.description('Seconds.'));

/** The schema of each code's `ErrorDetailsByCode`. */
const DETAILS: { [C in ErrorCode]: { [K in keyof ErrorDetailsByCode[C]]-?: Schema } } = {
  INVALID_JSON: {},
  INVALID: { errors: v.array(FieldProblem) },
  UNAUTHENTICATED: {},
  FORBIDDEN: {},
  NOT_FOUND: {},
  ORDER_CONFLICT: {},
  TOO_LATE: { state: State },
  TOO_EARLY: { state: State },
  TOO_MANY: {},
  PAYLOAD_TOO_LARGE: {},
  BUSY: { retry_after: RetryAfter },
  UNAVAILABLE: { retry_after: RetryAfter },
  INTERNAL: {},
};

/** `TOO_LATE` → `TooLateProblem`. */
const problemName = (code: ErrorCode) =>
  `${code.toLowerCase().replace(/(?:^|_)(.)/g, (_, letter: string) => letter.toUpperCase())}Problem`;

const PROBLEMS = Object.fromEntries(
  ERROR_CODES.map((code) => {
    const { status } = ERRORS[code];
    const own = { status: v.literal(status), code: v.literal(code), ...DETAILS[code] };
    return [problemName(code), v.object({ ...Problem.entries, ...own })];
  }),
);

/** Schemas that become named components of the document; each use of one is a `$ref`. */
const NAMED = {
  Actor,
  Address,
  ErrorCode: Code,
  Event,
  EventPayload,
  FailedAttempt,
  FailureReason,
  FieldProblem,
  Item,
  OrderPage: ListOutput,
  OrderStatus,
  OrderSummary,
  OrderView,
  Payment,
  Problem,
  Shipment,
  ShipmentPayload,
  SignalDecided,
  SignalOutput,
  SignalQueued,
  StartOutput,
  State,
  ...PROBLEMS,
};

/** Values read from SQL are documented by the schema that validated them when they were accepted. */
const RECORDED = {
  Actor: RecordedActor,
  Address: RecordedAddress,
  EventPayload: RecordedEventPayload,
  Item: RecordedItem,
  ShipmentPayload: RecordedShipmentPayload,
};

const ANY_CALL: ErrorCode[] = ['INVALID', 'UNAUTHENTICATED', 'FORBIDDEN', 'BUSY', 'INTERNAL', 'UNAVAILABLE'];
const CALL_WITH_BODY: ErrorCode[] = ['INVALID_JSON', 'PAYLOAD_TOO_LARGE'];

/** Example error responses: the `detail` text, and the details of the code. */
const EXAMPLES: { [C in ErrorCode]?: { detail: string } & ErrorDetailsByCode[C] } = {
  INVALID: {
    detail: 'items.0.qty: must be at least 1',
    errors: [{ path: 'items.0.qty', message: 'must be at least 1' }],
  },
  UNAUTHENTICATED: { detail: 'the token has expired' },
  FORBIDDEN: { detail: 'the token lacks the scope orders:start' },
  NOT_FOUND: { detail: 'there is no order o-1001' },
  ORDER_CONFLICT: { detail: 'order o-1001 was started with another body' },
  TOO_LATE: { detail: 'too late: the order is shipped', state: 'shipped' },
  TOO_EARLY: { detail: 'too early: the order is shipping', state: 'shipping' },
  BUSY: { detail: 'the workers are at capacity; try again in 3 s', retry_after: 3 },
  UNAVAILABLE: { detail: 'Temporal does not answer', retry_after: 1 },
};

const OPTIONS = {
  target: 'draft-2020-12',
  // Rules that JSON Schema cannot express, such as well-formed Unicode, are still checked by the API.
  errorMode: 'ignore',
  overrideRef: ({ referenceId }: { referenceId: string }) => `#/components/schemas/${referenceId}`,
  overrideSchema: ({ valibotSchema }: { valibotSchema: unknown }) => {
    const [name] = Object.entries(RECORDED).find(([, schema]) => schema === valibotSchema) ?? [];
    return name ? { $ref: `#/components/schemas/${name}` } : undefined;
  },
} as const;

/** Generated once: it does not change while the program runs. */
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
    servers: [{ url: '/', description: 'The server that this document was loaded from' }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths: paths(),
    components: {
      schemas: toJsonSchemaDefs(NAMED, { ...OPTIONS, typeMode: 'output' }),
      responses: Object.fromEntries(ERROR_CODES.map((code) => [code, errorResponse(code)])),
      securitySchemes: { [BEARER]: bearerScheme() },
    },
  };
  return document;
}

const TAGS = {
  orders: 'Start and read orders.',
  commands: 'Act on an order that has been started.',
  health: 'Probes.',
};

/** Named in each operation's `security`, with the scope that it needs. */
const BEARER = 'token';

function bearerScheme(): Json {
  const scopes = Object.entries(SCOPES).map(([name, meaning]) => `- \`${name}\`: ${meaning}`);
  const meaning = 'A JWT. Its claim `scope` lists what its holder may do. An API with `AUTH=off` needs none.';
  const description = [meaning, '', ...scopes].join('\n');
  return { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description };
}

function paths(): Json {
  const all: Record<string, Json> = {
    '/health': {
      get: {
        operationId: 'health',
        summary: 'Whether the API process runs; depends on nothing else',
        tags: ['health'],
        responses: { 200: success('Healthy', v.object({ ok: v.literal(true) })) },
      },
    },
  };
  for (const procedure of restProcedures()) {
    const { rest, scope } = procedure.meta;
    const { method, path } = rest;
    const templated = path.replace(/:(\w+)/g, '{$1}');
    all[templated] = {
      ...all[templated],
      [method.toLowerCase()]: { ...operation(procedure), security: [{ [BEARER]: [scope] }] },
    };
  }
  return all;
}

function operation({ name, meta, input, output }: RestProcedure): Json {
  const { rest, summary, errors, command } = meta;
  const { properties = {}, required = [] } = inline(input, 'input');
  const inPath = [...rest.path.matchAll(/:(\w+)/g)].map(([, key = '']) => key);
  const elsewhere = Object.entries(properties).filter(([key]) => !inPath.includes(key));
  const parameters = [
    ...inPath.map((key) => parameter('path', key, properties[key], true)),
    ...(rest.method === 'GET'
      ? elsewhere.map(([key, schema]) => parameter('query', key, schema, required.includes(key)))
      : []),
    ...(command ? [idempotencyKey(command)] : []),
  ];
  const needed = required.filter((key) => !inPath.includes(key));
  const possible = new Set([...ANY_CALL, ...(rest.method === 'POST' ? CALL_WITH_BODY : []), ...errors]);
  return {
    operationId: name,
    summary,
    tags: [command ? 'commands' : 'orders'],
    ...(parameters.length > 0 && { parameters }),
    ...(rest.method === 'POST' && { requestBody: requestBody(input, Object.fromEntries(elsewhere), needed) }),
    responses: {
      ...successes(output),
      ...failures(possible),
    },
  };
}

/** Tools fill a parameter from its own `example`, not from its schema's `examples`. */
function parameter(where: 'path' | 'query', name: string, schema: unknown, required: boolean): Json {
  const [example] = (schema as JsonSchema).examples ?? [];
  return { name, in: where, required, schema, ...(example !== undefined && { example }) };
}

function requestBody(input: Schema, properties: Json, required: string[]): Json {
  const schema = { type: 'object', properties, ...(required.length > 0 && { required }) };
  const whole = exampleOf(toJsonSchema(input, { ...OPTIONS, typeMode: 'input' })) as Json;
  const example = Object.fromEntries(Object.entries(whole).filter(([key]) => key in properties));
  return { required: required.length > 0, content: { 'application/json': { schema, example } } };
}

/** The schema's own example or default, else one made of those of its parts. */
function exampleOf(schema: unknown): unknown {
  const { examples, default: byDefault, type, items, properties = {} } = schema as JsonSchema;
  if (examples) return examples[0];
  if (type === 'array') return [exampleOf(items)];
  if (type !== 'object') return byDefault;
  return Object.fromEntries(Object.entries(properties).map(([key, part]) => [key, exampleOf(part)]));
}

/** Each command has an example of its own: one id for two commands would be refused. */
function idempotencyKey(command: Command): Json {
  const example = `${COMMANDS[command].path}-o-1001`;
  return {
    name: 'Idempotency-Key',
    in: 'header',
    description:
      "The command's id, printable ASCII without spaces, chosen by the caller for one command on one order. Sent again under the same id, it is not executed again and gets the first answer. Generated by the API when absent.",
    schema: inline(IdempotencyKey, 'input'),
    example,
  };
}

/** A command has two success responses: decided, or queued. That of a start links to the operations on the order. */
function successes(output: Schema): Json {
  const links = output === StartOutput && { links: linksFromStart() };
  if (output !== SignalOutput) return { 200: { ...success('Done', output), ...links } };
  return { 200: success('Done', SignalDecided), 202: success('Accepted, to be decided later', SignalQueued) };
}

/** By status: the response of its code; where several codes share a status, a response that is one of theirs. */
function failures(codes: Set<ErrorCode>): Json {
  const byStatus = Map.groupBy(codes, (code) => ERRORS[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, shared]) => [
      status,
      shared.length === 1 ? { $ref: `#/components/responses/${shared[0]}` } : errorResponse(...shared),
    ]),
  );
}

/** Every operation on an order that has been started. */
function linksFromStart(): Json {
  const onOrder = restProcedures().filter(({ input, output }) => output !== StartOutput && hasOrderId(input));
  return Object.fromEntries(
    onOrder.map(({ name }) => [name, { operationId: name, parameters: { order_id: '$request.path.order_id' } }]),
  );
}

const hasOrderId = (input: Schema): boolean => 'order_id' in ((input as { entries?: object }).entries ?? {});

function success(description: string, schema: Schema): Json {
  return { description, content: { 'application/json': { schema: inline(schema, 'output') } } };
}

/** The response of one code, or of several with one status. */
function errorResponse(...codes: ErrorCode[]): Json {
  const schemas = codes.map((code) => ({ $ref: `#/components/schemas/${problemName(code)}` }));
  const examples = codes.map((code) => {
    const { status, title } = ERRORS[code];
    return [code, { value: { type: 'about:blank', title, status, detail: title, code, ...EXAMPLES[code] } }] as const;
  });
  const [schema] = schemas;
  return {
    description: codes.map((code) => `${code}: ${ERRORS[code].title}`).join('; '),
    ...(codes.every((code) => ERRORS[code].retryable) && {
      headers: { 'Retry-After': { description: 'Seconds', required: true, schema: { type: 'integer', minimum: 1 } } },
    }),
    content: {
      'application/problem+json':
        codes.length === 1
          ? { schema, example: examples[0]?.[1].value }
          : { schema: { oneOf: schemas }, examples: Object.fromEntries(examples) },
    },
  };
}

function errorTable(): string {
  const rows = ERROR_CODES.map((code) => {
    const { status, title, retryable } = ERRORS[code];
    return `| ${code} | ${status} | ${title} | ${retryable ? 'yes' : 'no'} |`;
  });
  return ['| code | HTTP | meaning | a retry can help |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

function inline(schema: Schema, typeMode: 'input' | 'output'): JsonSchema & { properties?: Json; required?: string[] } {
  const { $schema, $defs, ...rest } = toJsonSchema(schema, { ...OPTIONS, typeMode, definitions: NAMED });
  return rest as ReturnType<typeof inline>;
}
