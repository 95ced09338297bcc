/** The Temporal port over Temporal's own HTTP API, for runtimes that have `fetch` and nothing else. */
import { COMMANDS, type Command, type CommandAnswer } from '@trellis/contracts/commands';
import type { WorkflowStatus } from '@trellis/contracts/order-status';
import type { Payload as Bytes, Encryption } from '@trellis/contracts/payload-codec';
import { policyNameOf } from '@trellis/contracts/policy';
import {
  ERASE_WORKFLOW,
  type EraseInput,
  eraseWorkflowId,
  ORDER_WORKFLOW,
  ORDERS_QUEUE,
  orderWorkflowId,
  REQUEST_HASH_MEMO,
  STATUS_QUERY,
  WORKFLOW_TASK_TIMEOUT_MS,
} from '@trellis/contracts/temporal';
import {
  CALL_TIMEOUT_MS,
  isDead,
  refusalOf,
  TAKES_NO_UPDATE,
  type TemporalPort,
  type UpdateAnswer,
  unavailable,
  undefinedIfUnavailable,
} from './port.ts';

export interface HttpTemporalOptions {
  /** The server's HTTP API, such as `http://127.0.0.1:7243`. */
  url: string;
  namespace: string;
  /** Sent as a bearer token when present. */
  apiKey?: string | undefined;
  /** Sent with every request, for a gateway in front of the server. They replace none of the port's own. */
  headers?: Record<string, string> | undefined;
  /** By default the runtime's. */
  fetch?: ((request: Request) => Promise<Response>) | undefined;
  /** Absent where nothing is encrypted. */
  encryption?: Encryption | undefined;
}

/** Turns off payload shorthand, which corrupts empty arrays and large numbers. */
const MEDIA_TYPE = 'application/json+no-payload-shorthand';
const JSON_PLAIN = 'json/plain';

/** A payload in an answer: bytes in base64. */
interface Payload {
  metadata?: Record<string, string>;
  data?: string;
}

interface Failure {
  message?: string;
  applicationFailureInfo?: { type?: string; details?: { payloads?: Payload[] } };
}

interface UpdateResponse {
  stage?: string;
  outcome?: { success?: { payloads?: Payload[] }; failure?: Failure };
}

/** A response of the server whose status is not 2xx. */
class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly status: number;
  /** Temporal's code of the error; undefined in a proxy's answer. */
  readonly code: unknown;
  readonly types: string[];

  /** `body`: Temporal's, or any JSON of a proxy. */
  constructor(status: number, body: null | { code?: unknown; message?: unknown; details?: unknown }) {
    super(`${status} ${body?.message ?? ''}`);
    this.status = status;
    this.code = body?.code;
    const details: unknown[] = Array.isArray(body?.details) ? body.details : [];
    this.types = details.map((detail) => `${(detail as null | { '@type'?: unknown })?.['@type'] ?? ''}`);
  }
}

/** Temporal itself did not answer: it was not reached, took too long, or a proxy answered in its place. */
class NoAnswer extends Error {
  override readonly name = 'NoAnswer';
}

/** Creates the port on a server's HTTP API. It connects at the first call. */
export function createHttpTemporal(options: HttpTemporalOptions): TemporalPort {
  const { url, namespace, apiKey, headers: ofGateway = {}, fetch: send = fetch, encryption } = options;
  const namespaceUrl = `${url.replace(/\/+$/, '')}/api/v1/namespaces/${encodeURIComponent(namespace)}`;
  const headers: Record<string, string> = {
    // Their names in lower case.
    ...Object.fromEntries(new Headers(ofGateway)),
    accept: MEDIA_TYPE,
    'content-type': MEDIA_TYPE,
    ...(apiKey && { authorization: `Bearer ${apiKey}` }),
  };

  /** Throws an HttpError when the status is not 2xx, NoAnswer when there is no JSON object within `timeoutMs`. */
  async function callNamespace<T>(path: string, timeoutMs: number, body?: unknown): Promise<T> {
    const request = new Request(`${namespaceUrl}${path}`, {
      headers: { ...headers, 'grpc-timeout': `${timeoutMs}m` },
      signal: AbortSignal.timeout(timeoutMs),
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body, inBase64) }),
    });
    const { ok, status, answer } = await answerTo(send(request));
    if (!ok) throw new HttpError(status, answer);
    if (answer === null || typeof answer !== 'object') throw new NoAnswer('the answer is not an object');
    return answer;
  }

  const callWorkflow = <T>(workflowId: string, path: string, timeoutMs: number, body?: unknown): Promise<T> =>
    callNamespace(`/workflows/${encodeURIComponent(workflowId)}${path}`, timeoutMs, body);
  const call = <T>(orderId: string, path: string, timeoutMs: number, body?: unknown): Promise<T> =>
    callWorkflow(orderWorkflowId(orderId), path, timeoutMs, body);

  /** Undefined when Temporal has no such run, or none that is running. */
  async function unlessMissing<T>(calling: Promise<T>): Promise<T | undefined> {
    try {
      return await calling;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw failed(error);
    }
  }

  function update(orderId: string, command: Command, args: object, id: string, timeoutMs: number, stage: string) {
    return call<UpdateResponse>(orderId, `/update/${COMMANDS[command].temporal}`, timeoutMs, {
      waitPolicy: { lifecycleStage: `UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_${stage}` },
      request: { meta: { updateId: id }, input: { args } },
    });
  }

  /** What is sent to the order's workflow. */
  async function payloads(orderId: string, values: unknown[]) {
    const clear = values.map(encoded);
    return { payloads: (await encryption?.encode(clear, { workflowId: orderWorkflowId(orderId) })) ?? clear };
  }

  /** What the order's workflow answered, as `decoded`. */
  async function read(orderId: string, payload: Payload | undefined): Promise<unknown> {
    if (!encryption || !payload) return decoded(payload && bytesOf(payload));
    return decoded((await encryption.decode([bytesOf(payload)], { workflowId: orderWorkflowId(orderId) }))[0]);
  }

  /** Undefined while the update has no outcome that can be read. */
  async function answerOf(orderId: string, { outcome }: UpdateResponse): Promise<UpdateAnswer | undefined> {
    if (outcome?.failure) {
      const { message = '', applicationFailureInfo: info } = outcome.failure;
      return refusalOf(info?.type, message, await read(orderId, info?.details?.payloads?.[0]));
    }
    const answer = await read(orderId, outcome?.success?.payloads?.[0]);
    return answer ? { outcome: 'decided', answer: answer as CommandAnswer } : undefined;
  }

  return {
    async start(order, requestHash, afterDeadRun = false) {
      try {
        const { runId } = await call<{ runId: string }>(order.order_id, '', CALL_TIMEOUT_MS, {
          requestId: crypto.randomUUID(),
          workflowType: { name: ORDER_WORKFLOW },
          taskQueue: { name: ORDERS_QUEUE },
          input: await payloads(order.order_id, [order]),
          memo: { fields: { [REQUEST_HASH_MEMO]: encoded(requestHash) } },
          workflowIdReusePolicy: `WORKFLOW_ID_REUSE_POLICY_${afterDeadRun ? 'ALLOW_DUPLICATE_FAILED_ONLY' : 'REJECT_DUPLICATE'}`,
          workflowIdConflictPolicy: 'WORKFLOW_ID_CONFLICT_POLICY_FAIL',
          workflowTaskTimeout: `${WORKFLOW_TASK_TIMEOUT_MS[policyNameOf(order.policy)] / 1000}s`,
        });
        return { run_id: runId };
      } catch (error) {
        if (error instanceof HttpError && error.status === 409) return undefined;
        throw failed(error);
      }
    },

    async find(orderId) {
      const found = await unlessMissing(
        call<{
          workflowExecutionInfo: {
            execution: { runId: string };
            startTime: string;
            firstRunId?: string;
            status?: string;
            memo?: { fields?: Record<string, Payload> };
          };
        }>(orderId, '', CALL_TIMEOUT_MS),
      );
      if (!found) return undefined;
      const { execution, startTime, firstRunId, status, memo } = found.workflowExecutionInfo;
      return {
        run_id: firstRunId || execution.runId,
        started_at: new Date(startTime).toISOString(),
        request_hash: textIn(memo?.fields?.[REQUEST_HASH_MEMO]),
        dead: isDead(status),
      };
    },

    async update(orderId, command, args, id, timeoutMs) {
      const end = performance.now() + timeoutMs;
      let accepted = false;
      try {
        const sent = await payloads(orderId, args);
        let answer = await update(orderId, command, sent, id, timeoutMs, 'ACCEPTED');
        accepted = answer.stage !== undefined && !/UNSPECIFIED|ADMITTED/.test(answer.stage);
        // The HTTP API has no call that polls an update; sending it again under its id waits for the same one. The server may end the wait early.
        for (let left = timeoutMs; accepted && !answer.outcome && left > 0; left = Math.ceil(end - performance.now()))
          answer = await update(orderId, command, sent, id, left, 'COMPLETED');
        return (await answerOf(orderId, answer)) ?? { outcome: accepted ? 'accepted' : 'not_accepted' };
      } catch (error) {
        if (isMissing(error)) return { outcome: 'no_open_run' };
        if (isLost(error)) return { outcome: accepted ? 'accepted' : 'not_accepted' };
        // To one that was accepted, RESOURCE_EXHAUSTED means that its run is closing.
        if (error instanceof HttpError && TAKES_NO_UPDATE.includes(error.code))
          return { outcome: accepted ? 'interrupted' : 'not_accepted' };
        throw failed(error);
      }
    },

    async signal(orderId, command, args) {
      const body = { requestId: crypto.randomUUID(), input: await payloads(orderId, args) };
      const path = `/signal/${COMMANDS[command].temporal}`;
      return (await unlessMissing(call(orderId, path, CALL_TIMEOUT_MS, body))) !== undefined;
    },

    async query(orderId, timeoutMs) {
      const found = await undefinedIfUnavailable(
        unlessMissing(
          call<{ queryResult?: { payloads?: Payload[] } }>(orderId, `/query/${STATUS_QUERY}`, timeoutMs, {}),
        ),
      );
      const status = read(orderId, found?.queryResult?.payloads?.[0]) as Promise<WorkflowStatus | undefined>;
      return undefinedIfUnavailable(status);
    },

    async erase(order_id, erased_by) {
      const input: EraseInput = { order_id, erased_by };
      await callWorkflow(eraseWorkflowId(order_id), '', CALL_TIMEOUT_MS, {
        requestId: crypto.randomUUID(),
        workflowType: { name: ERASE_WORKFLOW },
        taskQueue: { name: ORDERS_QUEUE },
        input: { payloads: [encoded(input)] },
        workflowIdConflictPolicy: 'WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING',
      }).catch((error) => {
        throw failed(error);
      });
    },

    async ping(timeoutMs) {
      await callNamespace('', timeoutMs).catch((error) => {
        throw failed(error);
      });
    },
  };
}

/** 404 also means an unknown namespace; only NotFoundFailure means that there is no such run. */
function isMissing(error: unknown): boolean {
  return (
    error instanceof HttpError && error.status === 404 && error.types.some((type) => /[./]NotFoundFailure$/.test(type))
  );
}

/** Whether the call's outcome is unknown. */
function isLost(error: unknown): boolean {
  return error instanceof NoAnswer || (error instanceof HttpError && [499, 502, 503, 504].includes(error.status));
}

/** What a call rejects with: an OrderError when Temporal or the connection to it failed, the error itself when it is a bug. */
function failed(error: unknown): unknown {
  if (error instanceof HttpError) return unavailable(error, error.code ?? CODE_OF_STATUS[error.status]);
  return error instanceof NoAnswer ? unavailable(error) : error;
}

/** The gRPC codes of a proxy's answers. */
const CODE_OF_STATUS: Record<number, number> = { 400: 3, 401: 16, 403: 7, 404: 5, 429: 8 };

async function answerTo(calling: Promise<Response>) {
  try {
    const response = await calling;
    // Read as bytes: not every runtime decodes this media type as text.
    const answer = JSON.parse(new TextDecoder().decode(await response.arrayBuffer()));
    return { ok: response.ok, status: response.status, answer };
  } catch (cause) {
    throw new NoAnswer('Temporal did not answer', { cause });
  }
}

const utf8 = (text: string) => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array | null | undefined) => new TextDecoder().decode(bytes ?? undefined);

const encoded = (value: unknown): Bytes => ({
  metadata: { encoding: utf8(JSON_PLAIN) },
  data: utf8(JSON.stringify(value ?? null)),
});

/** For JSON.stringify. */
const inBase64 = (_: string, value: unknown) =>
  value instanceof Uint8Array ? btoa(Array.from(value, (byte) => String.fromCharCode(byte)).join('')) : value;

/** Undefined when there is no payload, or its encoding is not JSON. Throws a SyntaxError when it is no JSON. */
function decoded(payload: Bytes | undefined): unknown {
  return textOf(payload?.metadata?.encoding) === JSON_PLAIN ? JSON.parse(textOf(payload?.data)) : undefined;
}

const fromBase64 = (text: string) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

const bytesOf = ({ metadata = {}, data = '' }: Payload): Bytes => ({
  metadata: Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name, fromBase64(value)])),
  data: fromBase64(data),
});

/** The text in a memo, which any caller may have written. */
function textIn(payload: Payload | undefined): string | undefined {
  try {
    const text = decoded(payload && bytesOf(payload));
    return typeof text === 'string' ? text : undefined;
  } catch {
    return undefined;
  }
}
