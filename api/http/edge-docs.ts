/** A part of `npm run edge:build`: writes the files of `/docs` and `/openapi.json` into the folder of static files that the edge serves. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DOCS, DOCS_HEADERS } from './docs.ts';
import { openApiDocument } from './openapi-from-router.ts';
import { HEADERS } from './responses.ts';

const [folder] = process.argv.slice(2);
if (!folder) throw new Error('usage: node api/http/edge-docs.ts FOLDER');
mkdirSync(join(folder, 'docs'), { recursive: true });
for (const [path, file] of Object.entries(DOCS)) copyFileSync(file, join(folder, path));
writeFileSync(join(folder, 'openapi.json'), JSON.stringify(openApiDocument()));
// Cloudflare reads the headers of static files from this file.
writeFileSync(join(folder, '_headers'), rule('/docs/*', DOCS_HEADERS) + rule('/openapi.json', HEADERS));

function rule(path: string, headers: Record<string, string>): string {
  const lines = Object.entries(headers).map(([name, value]) => `  ${name}: ${value}\n`);
  return `${path}\n${lines.join('')}`;
}
