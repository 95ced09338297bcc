import type { State } from './states-and-steps.ts';

/** The product's errors: code → HTTP status, tRPC code, whether a retry can help, title. Plain data. */
export const ERRORS = {
  INVALID_JSON: { status: 400, trpc: 'PARSE_ERROR', retryable: false, title: 'The body is not JSON' },
  INVALID: { status: 422, trpc: 'BAD_REQUEST', retryable: false, title: 'The input is not valid' },
  UNAUTHENTICATED: { status: 401, trpc: 'UNAUTHORIZED', retryable: false, title: 'No valid token' },
  FORBIDDEN: { status: 403, trpc: 'FORBIDDEN', retryable: false, title: 'Not allowed' },
  NOT_FOUND: { status: 404, trpc: 'NOT_FOUND', retryable: false, title: 'Not found' },
  ORDER_CONFLICT: { status: 409, trpc: 'CONFLICT', retryable: false, title: 'The order exists with another body' },
  TOO_LATE: { status: 409, trpc: 'CONFLICT', retryable: false, title: "The order's state forbids this" },
  TOO_EARLY: { status: 409, trpc: 'CONFLICT', retryable: false, title: 'The order has not ended' },
  TOO_MANY: { status: 409, trpc: 'CONFLICT', retryable: false, title: 'The order takes no more commands of this kind' },
  PAYLOAD_TOO_LARGE: { status: 413, trpc: 'PAYLOAD_TOO_LARGE', retryable: false, title: 'The body is too large' },
  BUSY: { status: 429, trpc: 'TOO_MANY_REQUESTS', retryable: true, title: 'Too much work at once' },
  UNAVAILABLE: { status: 503, trpc: 'SERVICE_UNAVAILABLE', retryable: true, title: 'Temporarily unavailable' },
  INTERNAL: { status: 500, trpc: 'INTERNAL_SERVER_ERROR', retryable: false, title: 'Internal error' },
} as const;

export type ErrorCode = keyof typeof ERRORS;

export const ERROR_CODES = Object.keys(ERRORS) as ErrorCode[];

/** One violation of an input's schema: the dotted path of the field, and the rule it breaks. */
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
  UNAUTHENTICATED: NoDetails;
  FORBIDDEN: NoDetails;
  NOT_FOUND: NoDetails;
  ORDER_CONFLICT: NoDetails;
  /** The state that forbids the command. */
  TOO_LATE: { state: State };
  /** The state of the order, which is open. */
  TOO_EARLY: { state: State };
  TOO_MANY: NoDetails;
  PAYLOAD_TOO_LARGE: NoDetails;
  /** Whole seconds after which a retry can help. */
  BUSY: { retry_after: number };
  /** As for BUSY. */
  UNAVAILABLE: { retry_after: number };
  INTERNAL: NoDetails;
}

/** The details of an error whose code is unknown at compile time: those of every code, all optional. */
export type ErrorDetails = Partial<
  ErrorDetailsByCode['INVALID'] & ErrorDetailsByCode['TOO_LATE'] & ErrorDetailsByCode['BUSY' | 'UNAVAILABLE']
>;

/** `details` may be left out only where the code has none that are required. */
type DetailsAndOptions<C extends ErrorCode> = NoDetails extends ErrorDetailsByCode[C]
  ? [details?: ErrorDetailsByCode[C], options?: ErrorOptions]
  : [details: ErrorDetailsByCode[C], options?: ErrorOptions];

/** An error that the API reports to its caller. `message` is shown to callers; `cause` is not. */
export class OrderError<C extends ErrorCode = ErrorCode> extends Error {
  override readonly name = 'OrderError';
  readonly code: C;
  readonly details: ErrorDetailsByCode[C];

  constructor(code: C, message: string, ...[details, options]: DetailsAndOptions<C>) {
    super(message, options);
    this.code = code;
    this.details = details ?? ({} as ErrorDetailsByCode[C]);
  }
}
