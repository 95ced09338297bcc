/** The API's answers, of JSON. Their headers are plain objects made once: `Headers` and `Response.json` would cost more than the answer. */
import { ERRORS, type ErrorDetails, type OrderError } from '@trellis/contracts/error';

/** Security headers of every answer but a page: it is one caller's data. */
export const HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
};
const JSON_HEADERS = { ...HEADERS, 'content-type': 'application/json' };
const PROBLEM_HEADERS = { ...HEADERS, 'content-type': 'application/problem+json' };

/** RFC 6750. */
const CHALLENGE = { 'www-authenticate': 'Bearer' };

export const jsonResponse = (body: unknown, status = 200): Response =>
  new Response(JSON.stringify(body), { status, headers: JSON_HEADERS });

/** To a path of this server. The method of the request stays. */
export const redirect = (location: string): Response =>
  new Response(null, { status: 307, headers: { ...HEADERS, location } });

/** An answer that other code has made, with our headers. */
export function withHeaders(answer: Response): Response {
  const headers = answer.status === ERRORS.UNAUTHENTICATED.status ? { ...HEADERS, ...CHALLENGE } : HEADERS;
  for (const [name, value] of Object.entries(headers)) answer.headers.set(name, value);
  return answer;
}

/** The error as a problem document of RFC 9457, with `Retry-After` in seconds where a retry can help. */
export function problemResponse(error: Pick<OrderError, 'code' | 'message' | 'details'>): Response {
  const { status, title, retryable } = ERRORS[error.code];
  const { retry_after }: ErrorDetails = error.details;
  const body = { type: 'about:blank', title, status, detail: error.message, code: error.code, ...error.details };
  const headers = {
    ...PROBLEM_HEADERS,
    ...(retryable && { 'retry-after': `${retry_after}` }),
    ...(error.code === 'UNAUTHENTICATED' && CHALLENGE),
  };
  return new Response(JSON.stringify(body), { status, headers });
}
