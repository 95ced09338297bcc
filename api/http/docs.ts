/** The files of `/docs`: Swagger UI and the page that loads our OpenAPI document into it. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const { resolve } = createRequire(import.meta.url);

const PAGE = fileURLToPath(new URL('docs.html', import.meta.url));

/** URL path → file. */
export const DOCS = {
  'docs/index.html': PAGE,
  'docs/swagger-ui.css': resolve('swagger-ui-dist/swagger-ui.css'),
  'docs/swagger-ui-bundle.js': resolve('swagger-ui-dist/swagger-ui-bundle.js'),
};

/** Allows this server's scripts and the page's inline one, by its hash, and requests to this server only. Swagger UI needs inline styles. */
const POLICY = [
  "default-src 'none'",
  `script-src 'self' '${hashOf(/<script>(.*?)<\/script>/s.exec(readFileSync(PAGE, 'utf8'))?.[1] ?? '')}'`,
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
  "form-action 'none'",
];

/** The response headers of every file under `/docs`. */
export const DOCS_HEADERS = {
  'cache-control': 'no-cache',
  'content-security-policy': POLICY.join('; '),
  'x-content-type-options': 'nosniff',
};

function hashOf(script: string): string {
  return `sha256-${createHash('sha256').update(script).digest('base64')}`;
}
