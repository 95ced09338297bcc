/** The least an API with Hono can be; `edge-cost` measures ours against it. */
import { Hono } from 'hono';

const app = new Hono();
app.get('/health', (c) => c.json({ ok: true }));

export default app;
