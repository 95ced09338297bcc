/** The smallest API that Hono makes with our schema of a start and nothing behind it; `npm run bench` compares ours with it. */
import { createAdaptorServer } from '@hono/node-server';
import { StartInput } from '@trellis/contracts/order';
import { Hono } from 'hono';
import { validator } from 'hono/validator';
import * as v from 'valibot';

const app = new Hono();
app.post(
  '/orders/:order_id/start',
  validator('json', (body, c) => {
    const parsed = v.safeParse(StartInput, { ...body, ...c.req.param() });
    return parsed.success ? parsed.output : c.json({ errors: parsed.issues.map(({ message }) => message) }, 422);
  }),
  (c) => c.json({ workflow_id: '', run_id: '' }),
);

createAdaptorServer({ fetch: app.fetch }).listen(Number(process.env.PORT), '127.0.0.1', () => process.send?.('ready'));
