import { defineConfig } from 'drizzle-kit';

export default defineConfig({
  dialect: 'mysql',
  schema: './drizzle/sandbox/schema.ts',
  out: './drizzle/sandbox/migrations',
});
