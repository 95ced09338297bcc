/** `npm run docs`: copies the files of `/docs` into the folder of static files that the edge serves. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DOCS, DOCS_HEADERS } from './docs.ts';

const [folder] = process.argv.slice(2);
if (!folder) throw new Error('usage: node api/http/edge-docs.ts FOLDER');
mkdirSync(join(folder, 'docs'), { recursive: true });
for (const [path, file] of Object.entries(DOCS)) copyFileSync(file, join(folder, path));
// Cloudflare reads the headers of static files from this file.
const headers = Object.entries(DOCS_HEADERS).map(([name, value]) => `  ${name}: ${value}\n`);
writeFileSync(join(folder, '_headers'), `/docs/*\n${headers.join('')}`);
