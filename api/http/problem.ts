/** REST errors as `application/problem+json`. */
import { ERRORS, type ErrorDetails, type OrderError } from '@trellis/contracts/error';
import type { ContentfulStatusCode } from 'hono/utils/http-status';

/** The error as a problem document of RFC 9457, with `Retry-After` in seconds where a retry can help. */
export function problemResponse(error: OrderError): Response {
  const { status, title, retryable } = ERRORS[error.code];
  const { retry_after }: ErrorDetails = error.details;
  const body = { type: 'about:blank', title, status, detail: error.message, code: error.code, ...error.details };
  return Response.json(body, {
    status: status as ContentfulStatusCode,
    headers: { 'content-type': 'application/problem+json', ...(retryable ? { 'retry-after': `${retry_after}` } : {}) },
  });
}
