import type { State } from './lifecycle.ts';

/** The product's errors: code → HTTP status, tRPC code, whether trying again can help. Plain data. */
export const ERRORS = {
  INVALID_JSON: { status: 400, trpc: 'PARSE_ERROR', retryable: false, title: 'The body is not JSON' },
  INVALID: { status: 422, trpc: 'BAD_REQUEST', retryable: false, title: 'The input is not valid' },
  NOT_FOUND: { status: 404, trpc: 'NOT_FOUND', retryable: false, title: 'Not found' },
  ORDER_CONFLICT: { status: 409, trpc: 'CONFLICT', retryable: false, title: 'The order exists with another body' },
  TOO_LATE: { status: 409, trpc: 'CONFLICT', retryable: false, title: "The order's state forbids this" },
  PAYLOAD_TOO_LARGE: { status: 413, trpc: 'PAYLOAD_TOO_LARGE', retryable: false, title: 'The body is too large' },
  BUSY: { status: 429, trpc: 'TOO_MANY_REQUESTS', retryable: true, title: 'Too much work at once' },
  UNAVAILABLE: { status: 503, trpc: 'SERVICE_UNAVAILABLE', retryable: true, title: 'Temporarily unavailable' },
  INTERNAL: { status: 500, trpc: 'INTERNAL_SERVER_ERROR', retryable: false, title: 'Internal error' },
} as const;

export type ErrorCode = keyof typeof ERRORS;

export const ERROR_CODES = Object.keys(ERRORS) as ErrorCode[];

/** Where an input is wrong: a dotted path into it, and why. */
export interface Problem {
  path: string;
  message: string;
}

type NoDetails = Record<never, never>;

/** The fields that an error of each code carries besides its code and message, in REST and tRPC alike. */
export interface ErrorDetailsByCode {
  INVALID_JSON: NoDetails;
  /** The fields that are not valid. */
  INVALID: { errors: Problem[] };
  NOT_FOUND: NoDetails;
  ORDER_CONFLICT: NoDetails;
  /** The state that forbids the command. */
  TOO_LATE: { state: State };
  PAYLOAD_TOO_LARGE: NoDetails;
  /** Whole seconds after which trying again can help. */
  BUSY: { retry_after: number };
  UNAVAILABLE: { retry_after?: number };
  INTERNAL: NoDetails;
}

/** What an error tells besides its code. */
export interface ErrorDetails {
  /** The failing fields of INVALID. */
  errors?: Problem[];
  /** The state that forbids the command, of TOO_LATE. */
  state?: State;
  /** Seconds after which trying again can help, of BUSY. */
  retry_after?: number;
}

/** The one error the product throws on purpose. `message` is shown to callers. */
export class OrderError extends Error {
  override readonly name = 'OrderError';
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.details = details;
  }
}
