/** Requests as a hostile caller may send them: generated from the OpenAPI document, and then changed. */
import { openApiDocument } from '@trellis/api/http/openapi-from-router';
import { restProcedures } from '@trellis/api/orders/router';
import fc from 'fast-check';

/** A request as it goes over the wire. */
export interface FuzzRequest {
  method: string;
  /** The path and the query, not normalized. */
  path: string;
  headers: Record<string, string>;
  body: Buffer | undefined;
}

/** What a caller can know and send. */
export interface CallerKnowledge {
  /** A text that only callers of its shop send. */
  secret: string;
  /** Order ids, of its shop and of others, as anybody may guess them. */
  ids: string[];
  /** The ids of all shops. */
  shops: string[];
}

interface Schema {
  $ref?: string;
  type?: string;
  const?: unknown;
  enum?: unknown[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: Schema | boolean;
  items?: Schema;
  minimum?: number;
  maximum?: number;
  maxLength?: number;
}

interface Operation {
  parameters?: { name: string; in: string; schema: Schema }[];
  requestBody?: { content: { 'application/json': { schema: Schema } } };
}

const { paths, components } = JSON.parse(JSON.stringify(openApiDocument())) as {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
};
/** Those of the procedures; `name` is that of tRPC. */
const OPERATIONS = restProcedures().map(({ name, meta: { rest } }) => {
  const path = rest.path.replace(/:(\w+)/g, '{$1}');
  return { name, method: rest.method, path, ...paths[path]?.[rest.method.toLowerCase()] };
});

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'];
/** Texts that parsers, databases and logs have been confused by. */
const ODD_TEXTS = [
  ...['', ' ', '.', '..', '/', '\\', '~', '*', '%', "' OR '1'='1", '"; DROP TABLE orders; --', '%s%n', '\u0000'],
  ...['\u202e', '\ud800', '\u{1f4a9}', '\r\nx: y', '__proto__', 'null', '-1', '1e999', '{"a":1}', 'x'.repeat(201)],
];
const ODD_VALUES: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(null, true, 0, -1, 1.5, 1e21, [], {}, [[]], { __proto__: null, constructor: 1 }),
  fc.constantFrom(...ODD_TEXTS),
  fc.jsonValue({ maxDepth: 2 }),
);

/** Generates the requests of a caller with this knowledge. Its valid bodies hold its secret wherever they may hold any text. */
export function requestsOf(knowledge: CallerKnowledge): fc.Arbitrary<FuzzRequest> {
  const id = idsOf(knowledge);
  const key = fc.option(fc.oneof(fc.constantFrom('k1', 'k2', knowledge.secret), words({ maxLength: 200 })));
  const operation = fc.constantFrom(...OPERATIONS);
  return operation.chain(({ name, method, path, parameters = [], requestBody }) => {
    const query = record(
      parameters.filter(({ in: at }) => at === 'query').map((one) => [one.name, one.schema]),
      knowledge,
    );
    const schema = requestBody?.content['application/json'].schema;
    const valid = schema === undefined ? fc.constant({}) : valuesOf(schema, knowledge);
    const body = method === 'GET' ? query : mostly(valid, changed(valid));
    const rest = fc
      .record({ id, body, key, other: mostly(fc.constant(method), fc.constantFrom(...METHODS), 20) })
      .chain(({ id, body, key, other }) =>
        fc.record({
          method: fc.constant(other),
          path: trickyPaths(path.replace('{order_id}', id) + (method === 'GET' ? queryText(body) : '')),
          headers: headersWith(key),
          body: other === 'GET' ? fc.constant(undefined) : bytesOf(JSON.stringify(body) ?? ''),
        }),
      );
    const trpc = fc.record({ id, body, key, batch: fc.nat(20) }).chain(({ id, body, key, batch }) => {
      const input = JSON.stringify({ ...(body as object), order_id: decoded(id) });
      const options = [method === 'GET' ? `input=${encodeURIComponent(input)}` : '', batch === 0 ? 'batch=1' : ''];
      return fc.record({
        method: fc.constant(method),
        path: fc.constant(`/trpc/${name}?${options.filter((text) => text !== '').join('&')}`),
        headers: headersWith(key),
        body: method === 'GET' ? fc.constant(undefined) : bytesOf(input),
      });
    });
    return fc.oneof({ weight: 3, arbitrary: rest }, { weight: 1, arbitrary: trpc });
  });
}

const words = (length: { minLength?: number; maxLength: number }) =>
  fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), ...length });

/** The first, and once in `every` the other. */
const mostly = <T>(usual: fc.Arbitrary<T>, other: fc.Arbitrary<T>, every = 3): fc.Arbitrary<T> =>
  fc.oneof({ weight: every - 1, arbitrary: usual }, { weight: 1, arbitrary: other });

/** As they stand in a path: ids of orders, with each shop before them, and what is none. */
function idsOf({ ids, shops }: CallerKnowledge): fc.Arbitrary<string> {
  const known = fc.constantFrom(...ids);
  const recorded = fc
    .record({
      shop: fc.constantFrom(...shops, '', '*', '.'),
      id: known,
      sign: fc.constantFrom('~', '%7E', '%257e', '~~'),
    })
    .map(({ shop, id, sign }) => `${shop}${sign}${id}`);
  const odd = fc.constantFrom(
    ...ODD_TEXTS.filter((text) => text !== '' && text.isWellFormed()).map(encodeURIComponent),
    ...['..%2f', '%2e%2e', '.%00', '%', '%zz', '%c0%ae', 'order-x', 'a%2Fb', 'x'.repeat(65), 'x'.repeat(5_000)],
  );
  return fc.oneof(
    { weight: 6, arbitrary: known },
    { weight: 3, arbitrary: recorded },
    { weight: 1, arbitrary: words({ minLength: 1, maxLength: 20 }) },
    { weight: 1, arbitrary: odd },
  );
}

/** A value that the schema of the document allows; a text is often the caller's secret. */
function valuesOf(schema: Schema, knowledge: CallerKnowledge): fc.Arbitrary<unknown> {
  const { $ref, type, properties, required = [], additionalProperties, items } = schema;
  if ($ref !== undefined) return valuesOf(components.schemas[$ref.split('/').at(-1) ?? ''] ?? {}, knowledge);
  if ('const' in schema) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  switch (type) {
    case 'object': {
      const fields = record(Object.entries(properties ?? {}), knowledge, required);
      if (typeof additionalProperties !== 'object') return fields;
      const more = fc.dictionary(words({ minLength: 1, maxLength: 5 }), valuesOf(additionalProperties, knowledge), {
        maxKeys: 2,
      });
      return fc.record({ fields, more }).map(({ fields, more }) => ({ ...more, ...fields }));
    }
    case 'array':
      return fc.array(valuesOf(items ?? {}, knowledge), { minLength: 1, maxLength: 3 });
    case 'integer':
      return fc.integer({ min: schema.minimum ?? 0, max: schema.maximum ?? 1_000 });
    case 'string':
      return fc.oneof(
        { weight: 4, arbitrary: fc.constant(knowledge.secret) },
        { weight: 1, arbitrary: fc.constantFrom('Chicago', 'Unreachable', ...knowledge.ids) },
        {
          weight: 1,
          arbitrary: fc.string({ unit: 'grapheme', minLength: 1, maxLength: Math.min(schema.maxLength ?? 20, 20) }),
        },
      );
    default:
      return ODD_VALUES;
  }
}

function record(fields: [string, Schema][], knowledge: CallerKnowledge, required: string[] = []) {
  const values = Object.fromEntries(fields.map(([name, schema]) => [name, valuesOf(schema, knowledge)]));
  return fc.record(values, { requiredKeys: required });
}

/** A body that differs in one field, or is something else altogether. */
function changed(valid: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  const oneField = fc.record({ body: valid, at: fc.nat(10), value: fc.option(ODD_VALUES, { nil: undefined }) });
  return fc.oneof(
    ODD_VALUES,
    oneField.map(({ body, at, value }) => {
      const names = [...Object.keys(body as object), 'policy', 'shop', '__proto__'];
      const name = names[at % names.length] ?? '';
      return Object.fromEntries([...Object.entries(body as object).filter(([key]) => key !== name), [name, value]]);
    }),
  );
}

/** The text's bytes, or now and then what is no JSON, no UTF-8, or too large. */
const bytesOf = (text: string): fc.Arbitrary<Buffer> =>
  mostly(
    fc.constant(Buffer.from(text)),
    fc.oneof(
      fc.nat(text.length).map((end) => Buffer.from(text.slice(0, end))),
      fc.uint8Array({ maxLength: 50 }).map((bytes) => Buffer.from(bytes)),
      fc.constantFrom(100, 70_000).map((length) => Buffer.from('['.repeat(length))),
    ),
    30,
  );

/** The path, or now and then one that a router, a proxy or a parser of URLs may take for another. */
function trickyPaths(path: string): fc.Arbitrary<string> {
  const tricks = [
    (text: string) => `${text}/`,
    (text: string) => `/${text}`,
    (text: string) => text.replaceAll('/', '//'),
    (text: string) => text.replace('/orders', '/ORDERS'),
    (text: string) => text.replace('/orders/', '/orders/./'),
    (text: string) => text.replace('/orders/', '/health/../orders/'),
    (text: string) => text.replace('/orders/', '/orders%2f'),
    (text: string) => `${text}?shop=*&order_id=o-1&order_id=o-2`,
    (text: string) => `${text};shop=*`,
    (text: string) => `${text}%00`,
    (text: string) => `${text}#/status`,
    (text: string) => `http://127.0.0.1${text}`,
  ];
  return mostly(
    fc.constant(path),
    fc.constantFrom(...tricks).map((trick) => trick(path)),
    15,
  );
}

function headersWith(key: string | null): fc.Arbitrary<Record<string, string>> {
  const own = { 'content-type': 'application/json', ...(key && { 'idempotency-key': key }) };
  const odd = [
    { 'content-type': 'text/plain' },
    { 'content-type': 'application/json; charset=utf-16' },
    { 'x-request-id': 'x'.repeat(300) },
    { 'x-shop': '*' },
    { 'x-forwarded-for': '127.0.0.1' },
    { 'x-http-method-override': 'DELETE' },
    { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
    { accept: 'text/html' },
    { 'if-none-match': '*' },
  ];
  return mostly(
    fc.constant(own),
    fc.constantFrom<Record<string, string>>(...odd).map((more) => ({ ...own, ...more })),
    10,
  );
}

const queryText = (fields: unknown): string => {
  const entries = Object.entries(fields as object).map(([name, value]): [string, string] => [
    name,
    `${value}`.toWellFormed(),
  ]);
  return entries.length === 0 ? '' : `?${new URLSearchParams(entries)}`;
};

function decoded(id: string): string {
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}
