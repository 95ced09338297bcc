/** The API's answers, of JSON. Their headers are plain objects made once: `Headers` and `Response.json` would cost more than the answer. */
import { ERRORS, type ErrorDetails, type OrderError } from '@trellis/contracts/error';

/** Security headers of every answer without its own: an answer is one caller's data and never a page. */
export const HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
};
const JSON_HEADERS = { ...HEADERS, 'content-type': 'application/json' };
const PROBLEM_HEADERS = { ...HEADERS, 'content-type': 'application/problem+json' };

export const jsonResponse = (body: unknown, status: number): Response =>
  new Response(JSON.stringify(body), { status, headers: JSON_HEADERS });

/** The error as a problem document of RFC 9457, with `Retry-After` in seconds where a retry can help. */
export function problemResponse(error: OrderError): Response {
  const { status, title, retryable } = ERRORS[error.code];
  const { retry_after }: ErrorDetails = error.details;
  const body = { type: 'about:blank', title, status, detail: error.message, code: error.code, ...error.details };
  const headers = retryable ? { ...PROBLEM_HEADERS, 'retry-after': `${retry_after}` } : PROBLEM_HEADERS;
  return new Response(JSON.stringify(body), { status, headers });
}
