/** The properties of the OpenAPI document on which generated clients and tools depend. */
import { readFileSync } from 'node:fs';
import { type SpecData, Validator } from '@seriousme/openapi-schema-validator';
import { openApiDocument } from '@trellis/api/http/openapi-from-router';
import { type Meta, restProcedures } from '@trellis/api/orders/router';
import { COMMAND_NAMES } from '@trellis/contracts/commands';
import { ERROR_CODES, ERRORS } from '@trellis/contracts/error';
import { FAILURE_REASONS, STATES } from '@trellis/contracts/states-and-steps';
import { initTRPC } from '@trpc/server';
import { expect, test } from 'vitest';

// biome-ignore lint/suspicious/noExplicitAny: a test looks into a document of JSON
const document: any = JSON.parse(JSON.stringify(openApiDocument()));
const { schemas, responses } = document.components;
// biome-ignore lint/suspicious/noExplicitAny: as above
const operations: any[] = Object.values(document.paths).flatMap((path) => Object.values(path as object));

/** Every value of a key, anywhere in the document. */
function valuesOf(key: string, part: unknown = document): unknown[] {
  if (part === null || typeof part !== 'object') return [];
  return Object.entries(part).flatMap(([name, value]) => [...(name === key ? [value] : []), ...valuesOf(key, value)]);
}

test('the document is valid OpenAPI 3.1', async () => {
  expect(document.openapi).toMatch(/^3\.1\./);
  expect(await new Validator().validate(document as SpecData)).toEqual({ valid: true });
});

test('states, error codes and failure reasons are one component each', () => {
  const enums = valuesOf('enum').map(String);
  for (const values of [STATES, ERROR_CODES, FAILURE_REASONS])
    expect(enums.filter((each) => each === String(values))).toHaveLength(1);
  expect(schemas).toMatchObject({ State: { enum: STATES }, ErrorCode: { enum: ERROR_CODES } });
});

test('every reference resolves', () => {
  const resolve = (ref: string) =>
    ref
      .split('/')
      .slice(1)
      .reduce((at, key) => at?.[key], document);
  const references = valuesOf('$ref') as string[];
  expect(references.length).toBeGreaterThan(50);
  expect(references.filter((ref) => resolve(ref) === undefined)).toEqual([]);
});

test('every field of a status is described, by itself or by its component', () => {
  const { order_id, as_of, ...fields } = schemas.OrderStatus.properties;
  const bare = Object.entries(fields).filter(([, field]) => valuesOf('description', field).length === 0);
  const referring = bare.filter(([, field]) => valuesOf('$ref', field).length === 0);
  expect(referring.map(([name]) => name)).toEqual([]);
  expect([schemas.State.description, schemas.FailureReason.description]).not.toContain(undefined);
});

test.each(ERROR_CODES)('an answer of %s has its own code and status, so that clients can tell them apart', (code) => {
  const { $ref } = responses[code].content['application/problem+json'].schema;
  expect(schemas[$ref.split('/').at(-1)].properties).toMatchObject({
    code: { const: code },
    status: { const: ERRORS[code].status },
  });
});

test('every error code that an operation can answer is in its responses, also where two have one status', () => {
  const { responses: answers } = document.paths['/orders/{order_id}/signals/approve'].post;
  expect(valuesOf('$ref', answers[409])).toEqual([
    '#/components/schemas/TooLateProblem',
    '#/components/schemas/TooManyProblem',
  ]);
});

test('every example of an Idempotency-Key belongs to one command', () => {
  const keys = operations.flatMap(({ parameters = [] }) =>
    parameters.filter(({ name }: { name: string }) => name === 'Idempotency-Key'),
  );
  expect(keys).toHaveLength(COMMAND_NAMES.length);
  expect(new Set(keys.map(({ example }) => example)).size).toBe(COMMAND_NAMES.length);
});

test('every path parameter and every body that must be sent has an example', () => {
  const inPath = operations.flatMap(({ parameters = [] }) =>
    parameters.filter((parameter: { in: string }) => parameter.in === 'path'),
  );
  expect(inPath.filter(({ example }) => example === undefined)).toEqual([]);
  const bodies = operations.flatMap(({ requestBody }) => (requestBody?.required ? [requestBody] : []));
  expect(bodies.filter(({ content }) => !content['application/json'].example)).toEqual([]);
});

test('the order id that /docs replaces by a fresh one is that of every example', () => {
  const page = readFileSync(new URL('../../api/http/docs.html', import.meta.url), 'utf8');
  const [, replaced = ''] = /replaceAll\('([^']+)'/.exec(page) ?? [];
  const inPath = operations.flatMap(({ parameters = [] }) =>
    parameters.filter(({ name }: { name: string }) => name === 'order_id'),
  );
  expect(new Set(inPath.map(({ example }) => example))).toEqual(new Set([replaced]));
  const start = document.paths['/orders/{order_id}/start'].post.requestBody.content['application/json'].example;
  expect(start.payment_id).toBe(`pay-${replaced}`);
});

test('the start of an order links to every operation on it', () => {
  const { links } = document.paths['/orders/{order_id}/start'].post.responses[200];
  expect(Object.keys(links)).toEqual([
    'orders.signal.approve',
    'orders.signal.cancel',
    'orders.signal.updateAddress',
    'orders.erase',
    'orders.status',
    'orders.get',
  ]);
});

test('a procedure without a REST route is left out of REST and the document', () => {
  const t = initTRPC.meta<Meta>().create();
  const meta: Meta = { scope: 'orders:read', summary: 'Do', errors: [] };
  const router = t.router({
    byBoth: t.procedure.meta({ ...meta, rest: { method: 'GET', path: '/both' } }).query(() => null),
    byTrpc: t.procedure.meta(meta).query(() => null),
  });
  expect(restProcedures(router).map(({ name }) => name)).toEqual(['byBoth']);
});
