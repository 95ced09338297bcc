/** A caller with types from `/openapi.json`, made by openapi-typescript. */
import createClient from 'openapi-fetch';
import type { paths } from './schema.js';

declare const process: { argv: string[] };

const [, , baseUrl = '', order_id = ''] = process.argv;
const api = createClient<paths>({ baseUrl });
const path = { order_id };

const started = await api.POST('/orders/{order_id}/start', {
  params: { path },
  body: {
    payment_id: `pay-${order_id}`,
    address: { line1: '123 Main', city: 'Chicago' },
    items: [{ sku: 'ABC', qty: 2 }],
  },
});
const approved = await api.POST('/orders/{order_id}/signals/approve', {
  params: { path, header: { 'Idempotency-Key': `approve-${order_id}` } },
});
const status = await api.GET('/orders/{order_id}/status', { params: { path } });
const unknown = await api.GET('/orders/{order_id}/status', { params: { path: { order_id: `${order_id}-unknown` } } });

const workflow_id: string | undefined = started.data?.workflow_id;
const ok: true | undefined = approved.data?.ok;
const answered: { order_id: string; approved: boolean } | undefined = status.data;
const code: string | undefined = unknown.error?.code;
console.log(JSON.stringify({ workflow_id, ok, status: answered, code }));

export const misuse = () => [
  // @ts-expect-error a path that does not exist
  api.GET('/orders/{order_id}/state', { params: { path } }),
  // @ts-expect-error a body without its fields
  api.POST('/orders/{order_id}/start', { params: { path }, body: { payment_id: 'p-1' } }),
];
