/** The files of `/docs`: Swagger UI and the page that loads our OpenAPI document into it. When run with a folder as its argument, it copies them there, for the edge. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const { resolve } = createRequire(import.meta.url);

/** URL path → file. */
export const DOCS = {
  'docs/index.html': fileURLToPath(new URL('docs.html', import.meta.url)),
  'docs/swagger-ui.css': resolve('swagger-ui-dist/swagger-ui.css'),
  'docs/swagger-ui-bundle.js': resolve('swagger-ui-dist/swagger-ui-bundle.js'),
};

if (import.meta.main) {
  const [folder] = process.argv.slice(2);
  if (!folder) throw new Error('usage: node api/http/docs.ts FOLDER');
  mkdirSync(join(folder, 'docs'), { recursive: true });
  for (const [path, file] of Object.entries(DOCS)) copyFileSync(file, join(folder, path));
}
