/** The smallest API that Hono makes; `edge-cost` compares this repository's API with it. */
import { Hono } from 'hono';

const app = new Hono();
app.get('/health', (c) => c.json({ ok: true }));

export default app;
