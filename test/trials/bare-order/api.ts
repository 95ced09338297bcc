/** The bare order's API: two calls of Temporal's client behind Hono. */
import { createAdaptorServer } from '@hono/node-server';
import { Client, Connection } from '@temporalio/client';
import { Hono } from 'hono';

const { TEMPORAL_ADDRESS = '', TEMPORAL_NAMESPACE = '', TASK_QUEUE = '', PORT } = process.env;
const connection = await Connection.connect({ address: TEMPORAL_ADDRESS });
const { workflow } = new Client({ connection, namespace: TEMPORAL_NAMESPACE });

const app = new Hono();
app.post('/orders/:id/start', async (c) => {
  const id = c.req.param('id');
  const workflowId = `order-${id}`;
  await workflow.start('order', { workflowId, taskQueue: TASK_QUEUE, args: [id, await c.req.json()] });
  return c.json({ id }, 202);
});
app.post('/orders/:id/signals/approve', async (c) => {
  await workflow.getHandle(`order-${c.req.param('id')}`).signal('approve');
  return c.json({ ok: true }, 202);
});

process.once('disconnect', () => process.exit());
createAdaptorServer({ fetch: app.fetch }).listen(Number(PORT), '127.0.0.1', () => process.send?.('ready'));
