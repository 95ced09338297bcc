/** The typed client works wherever there is `fetch`, contains no server code, and has the API's types. */
import { fileURLToPath } from 'node:url';
import { createContext, runInContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import { type CommandContext, createOrdersClient, orderErrorOf } from '@trellis/client';
import type { ERRORS } from '@trellis/contracts/error';
import { build } from 'esbuild';
import { Miniflare } from 'miniflare';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { buy } from '../callers/caller.ts';
import { anOrder, freshId } from '../fixtures.ts';
import { need } from '../servers.ts';

const bought = (order_id: string) => ({
  started: { workflow_id: `order-${order_id}`, run_id: expect.any(String) },
  approved: { ok: true },
  status: { order_id, state: 'shipped', step: 'done', approved: true },
  refused: { code: 'NOT_FOUND', message: expect.any(String) },
});

const { apis, API_URL } = await need('apis', 'api');

describe.each(apis)('an order is bought from the API on $name', ({ url, tokens }) => {
  test('by a caller on Node', async () => {
    const order = anOrder();
    expect(await buy(url, order, freshId(), tokens)).toMatchObject(bought(order.order_id));
  });

  test('by a browser page, without Node’s globals', async () => {
    const context = page();
    runInContext((await bundle('iife')).code, context);
    expect(runInContext('"process" in globalThis || "Buffer" in globalThis', context)).toBe(false);
    const order = anOrder();
    expect(await context.caller.buy(url, order, freshId(), tokens)).toMatchObject(bought(order.order_id));
  });
});

test('an order is bought by a caller on workerd, without Node’s globals', async () => {
  const contents = (await bundle('esm')).code;
  const config = {
    name: 'caller',
    // Later dates add Node's globals.
    compatibilityDate: '2025-01-01',
    manifest: { mainModule: 'caller.js', modules: { 'caller.js': { type: 'esm' as const, contents } } },
    env: { API_URL: { type: 'text' as const, value: API_URL } },
  };
  const workerd = new Miniflare({ cf: false, enableDevRegistry: false, workers: [{ config }] });
  try {
    const order = anOrder();
    const body = JSON.stringify({ order, unknown: freshId() });
    const answer = await workerd.dispatchFetch('http://caller/', { method: 'POST', body });
    const text = await answer.text();
    expect(answer.status, text).toBe(200);
    expect(JSON.parse(text)).toMatchObject(bought(order.order_id));
  } finally {
    await workerd.dispose();
  }
});

test("an error that is not the API's has no code", async () => {
  const nobody = createOrdersClient('http://127.0.0.1:1');
  expect(await nobody.list.query({}).catch((error) => [orderErrorOf(error)])).toEqual([undefined]);
});

test('the client contains no server code, and fits into 8 kB', async () => {
  const { code, metafile } = await bundle('esm');
  const [output] = Object.values(metafile.outputs);
  const packages = Object.keys(metafile.inputs).map((file) => file.replace(/.*node_modules\/(@?[^/]+\/[^/]+).*/, '$1'));
  expect(new Set(packages)).toEqual(
    new Set(['@trpc/client', '@trpc/server', 'api/client/index.ts', 'test/callers/caller.ts']),
  );
  expect(output?.imports).toEqual([]);
  const kept = Object.keys(output?.inputs ?? {}).filter((file) => file.includes('@trpc/server'));
  const shared = /dist\/(observable|codes|getErrorShape|asyncGeneratorDelegate)-[^/]*$/;
  expect(kept.filter((file) => !shared.test(file))).toEqual([]);
  const gzipped = gzipSync(code).length;
  process.stdout.write(`the client and its caller: ${code.length} bytes, ${gzipped} gzipped\n`);
  expect(gzipped).toBeLessThan(8_000);
});

/** `callers/caller.ts` as a browser or the edge loads it. */
async function bundle(format: 'esm' | 'iife') {
  const { outputFiles, metafile } = await build({
    entryPoints: [fileURLToPath(new URL('../callers/caller.ts', import.meta.url))],
    absWorkingDir: fileURLToPath(new URL('../..', import.meta.url)),
    bundle: true,
    platform: 'browser',
    format,
    globalName: 'caller',
    minify: true,
    outdir: '.',
    write: false,
    metafile: true,
  });
  return { code: outputFiles[0]?.text ?? '', metafile };
}

const WEB = [
  ...(['URL', 'Headers', 'Request', 'Response', 'FormData', 'Blob', 'ReadableStream', 'AbortController'] as const),
  ...(['AbortSignal', 'DOMException', 'TextEncoder', 'TextDecoder', 'setTimeout', 'clearTimeout', 'crypto'] as const),
];

/** The browser globals that a client may use. As in a browser, `fetch` throws when it is called as a method of another object. */
function page() {
  const context = createContext({
    ...Object.fromEntries(WEB.map((name) => [name, globalThis[name]])),
    fetch(this: unknown, ...call: Parameters<typeof fetch>) {
      if (this !== undefined && this !== context.window) throw new TypeError('Illegal invocation');
      return fetch(...call);
    },
  });
  context.window = context.self = runInContext('globalThis', context);
  return context;
}

/** The types are written out here, so that `npm run typecheck` fails when the API's types change. */
describe('the types', () => {
  const { start, status, get, list, erase, signal } = createOrdersClient('http://127.0.0.1:1');
  const { approve, cancel, updateAddress } = signal;

  type Open = 'received' | 'awaiting_approval' | 'approved' | 'payment_charged' | 'shipping';
  type Ended = 'shipped' | 'canceled' | 'expired' | 'failed';
  type State = Open | Ended;
  type OrderStep = 'receive_order' | 'validate_order' | 'charge_payment' | 'shipping_child' | 'mark_shipped';
  type Step = 'init' | 'awaiting_approval' | OrderStep | 'done';
  type OrderEvent = `order_${'received' | 'validated' | 'approved' | Ended | 'erased'}`;
  type ParcelEvent = 'package_prepared' | 'carrier_dispatched' | 'dispatch_failed';
  type OtherEvent = 'payment_charged' | 'payment_refunded' | 'address_updated' | 'command_refused';
  type EventType = OrderEvent | ParcelEvent | OtherEvent;
  type Address = { line1: string; city: string } & { [field: string]: string };
  type Text = string | null;
  type Failure =
    | 'INVALID_ORDER'
    | 'UNAPPROVED'
    | 'PAYMENT_DECLINED'
    | 'PAYMENT_CONFLICT'
    | 'CARRIER_REFUSED'
    | 'DEADLINE';
  interface Payment extends Record<'payment_id' | 'amount' | 'currency' | 'created_at' | 'updated_at', string> {
    status: 'pending' | 'charged' | 'failed' | 'refunded';
  }
  interface Summary
    extends Record<'order_id' | 'created_at' | 'updated_at', string>,
      Record<'payment_id' | 'amount' | 'currency' | 'reason', Text> {
    state: State;
  }
  /** An object that may have other fields, as tRPC spells it. */
  interface Loose {
    [field: string]: unknown;
    [index: number]: unknown;
    tracking?: string;
  }
  interface Parcel extends Loose {
    address?: { line1: string; city: string; [field: string]: string; [index: number]: string };
  }
  interface Actor {
    sub: string;
    shop?: string;
    via: string;
  }
  type EventText =
    | 'run_id'
    | 'payment_id'
    | 'approved_at'
    | 'amount'
    | 'currency'
    | 'reason'
    | 'detail'
    | 'command'
    | 'code'
    | 'id';
  interface Payload extends Loose, Partial<Record<EventText, string>> {
    state?: State;
    unit_amounts?: string[];
    attempt?: number;
    child_attempts?: number;
  }
  interface View extends Summary {
    erased_at: Text;
    address: Address | null;
    items: { sku: string; qty: number }[] | null;
    payments: Payment[];
    shipments: { attempt: number; status: 'prepared' | 'dispatched' | 'failed'; payload: Parcel | null; ts: string }[];
    events: { type: EventType; actor: Actor | null; payload: Payload | null; ts: string }[];
    events_next_cursor: Text;
  }
  interface Status
    extends Record<'order_id' | 'as_of', string>,
      Record<'approved' | 'canceled', boolean>,
      Record<'child_attempts' | 'attempt' | 'retries', number>,
      Record<'cancel_reason' | 'last_error' | 'dispatch_failed_reason' | 'activity', Text> {
    state: State;
    step: Step;
    reason: Failure | null;
    source: 'workflow' | 'sql' | 'temporal';
    recent_errors: { step: string; attempt: number; error: string; ts: string }[];
  }

  test("of every input and output are the API's", () => {
    type Order = { order_id: string; payment_id: string; address: Address; items: { sku: string; qty: number }[] };
    expectTypeOf(start.mutate).parameter(0).toEqualTypeOf<Order>();
    expectTypeOf(start.mutate).returns.resolves.toEqualTypeOf<{ workflow_id: string; run_id: string }>();
    expectTypeOf(status.query).parameter(0).toEqualTypeOf<{ order_id: string }>();
    expectTypeOf(status.query).returns.resolves.toEqualTypeOf<Status>();
    expectTypeOf(get.query).parameter(0).toEqualTypeOf<{ order_id: string; events_after?: string | undefined }>();
    expectTypeOf(get.query).returns.resolves.toEqualTypeOf<View>();
    type Page = { state?: State | undefined; limit?: number | string | undefined; cursor?: string | undefined };
    expectTypeOf(list.query).parameter(0).toEqualTypeOf<Page>();
    expectTypeOf(list.query).returns.resolves.toEqualTypeOf<{ orders: Summary[]; next_cursor: Text }>();
  });

  test('of a command allow its id, and both answers: decided or queued', () => {
    type Answer = { ok: true; state: State; changed: boolean } | { ok: true; queued: true };
    expectTypeOf(approve.mutate).parameter(0).toEqualTypeOf<{ order_id: string }>();
    expectTypeOf(cancel.mutate).parameter(0).toEqualTypeOf<{ order_id: string; reason?: string | undefined }>();
    expectTypeOf(updateAddress.mutate).parameter(0).toEqualTypeOf<{ order_id: string; address: Address }>();
    expectTypeOf(approve.mutate).returns.resolves.toEqualTypeOf<Answer>();
    expectTypeOf(cancel.mutate).returns.resolves.toEqualTypeOf<Answer>();
    expectTypeOf(updateAddress.mutate).returns.resolves.toEqualTypeOf<Answer>();
    expectTypeOf(erase.mutate).parameter(0).toEqualTypeOf<{ order_id: string }>();
    expectTypeOf(erase.mutate).returns.resolves.toEqualTypeOf<Answer>();
    expectTypeOf<CommandContext>().toEqualTypeOf<{ idempotencyKey?: string }>();
    expectTypeOf(approve.mutate).toBeCallableWith({ order_id: 'o-1' }, { context: { idempotencyKey: 'approval-7' } });
  });

  test('of an error derive its details from its code, which is one of ERRORS', () => {
    type Code = NonNullable<ReturnType<typeof orderErrorOf>>['code'];
    expectTypeOf<Code>().toEqualTypeOf<keyof typeof ERRORS>();
    expectTypeOf<string>().not.toExtend<Code>();
    type Problems = { path: string; message: string }[];
    type Plain = Exclude<Code, 'INVALID' | 'TOO_LATE' | 'TOO_EARLY' | 'BUSY' | 'UNAVAILABLE'>;
    type Of<C extends Code> = Extract<ReturnType<typeof orderErrorOf>, { code: C }>;
    expectTypeOf<Of<Plain>>().branded.toEqualTypeOf<{ [C in Plain]: { code: C; message: string } }[Plain]>();
    expectTypeOf<Of<'INVALID'>>().toEqualTypeOf<{ code: 'INVALID'; message: string; errors: Problems }>();
    expectTypeOf<Of<'TOO_LATE'>>().toEqualTypeOf<{ code: 'TOO_LATE'; message: string; state: State }>();
    expectTypeOf<Of<'TOO_EARLY'>>().toEqualTypeOf<{ code: 'TOO_EARLY'; message: string; state: State }>();
    expectTypeOf<Of<'BUSY'>>().toEqualTypeOf<{ code: 'BUSY'; message: string; retry_after: number }>();
    expectTypeOf<Of<'UNAVAILABLE'>>().toEqualTypeOf<{ code: 'UNAVAILABLE'; message: string; retry_after: number }>();
    expectTypeOf<undefined>().toExtend<ReturnType<typeof orderErrorOf>>();
  });

  test('refuse fields, commands and options that the API does not have', () => {
    // @ts-expect-error a field that is missing
    expectTypeOf(approve.mutate).toBeCallableWith({ id: 'o-1' });
    // @ts-expect-error a field too many
    expectTypeOf(() => approve.mutate({ order_id: 'o-1', note: 'now' })).toBeFunction();
    // @ts-expect-error a type that is wrong
    expectTypeOf(start.mutate).toBeCallableWith({ ...anOrder(), items: [{ sku: 'ABC', qty: '2' }] });
    // @ts-expect-error a command that does not exist
    expectTypeOf(signal.refund).not.toBeNever();
    const order = { order_id: 'o-1' };
    const misspelt = { idempotencykey: 'k' };
    // @ts-expect-error a context's key that is misspelt
    expectTypeOf(() => approve.mutate(order, { context: { idempotencykey: 'k' } })).toBeFunction();
    // @ts-expect-error the same, from a variable
    expectTypeOf(() => approve.mutate(order, { context: misspelt })).toBeFunction();
    // @ts-expect-error a key too many
    expectTypeOf(() => cancel.mutate(order, { context: { idempotencyKey: 'k', retries: 3 } })).toBeFunction();
    // @ts-expect-error a key for a call that is not a command
    expectTypeOf(() => status.query(order, { context: { idempotencyKey: 'k' } })).toBeFunction();
    // @ts-expect-error a mutation, called as a query
    expectTypeOf(start.query).not.toBeNever();
  });
});
