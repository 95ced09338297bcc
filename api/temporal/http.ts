/** The Temporal port over Temporal's own HTTP API, for runtimes that have `fetch` and nothing else. */
import { COMMANDS, type Command, type CommandAnswer } from '@trellis/contracts/command';
import { OrderError } from '@trellis/contracts/error';
import type { WorkflowStatus } from '@trellis/contracts/status';
import {
  ORDER_WORKFLOW,
  ORDERS_QUEUE,
  orderWorkflowId,
  REQUEST_HASH_MEMO,
  STATUS_QUERY,
  WORKFLOW_TASK_TIMEOUT_MS,
} from '@trellis/contracts/temporal';
import { ANSWER_WITHIN_MS, refusalOf, type TemporalPort, type UpdateAnswer, unavailable } from './port.ts';

export interface HttpTemporalOptions {
  /** Of the server's HTTP API, such as `http://127.0.0.1:7243`. */
  url: string;
  namespace: string;
  /** Sent as a bearer token, for servers that ask for one. */
  apiKey?: string | undefined;
}

/** Anything else turns the empty array and large numbers into something they are not. */
const MEDIA_TYPE = 'application/json+no-payload-shorthand';
const JSON_PLAIN = btoa('json/plain');

interface Payload {
  metadata?: { encoding?: string };
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

/** What the server answers besides a 200. */
class HttpError extends Error {
  readonly status: number;
  readonly types: string[];

  constructor(status: number, body: { message?: string; details?: { '@type'?: string }[] }) {
    super(`${status} ${body.message ?? ''}`);
    this.status = status;
    this.types = (body.details ?? []).map((detail) => detail['@type'] ?? '');
  }
}

export function createHttpTemporal({ url, namespace, apiKey }: HttpTemporalOptions): TemporalPort {
  const base = `${url.replace(/\/+$/, '')}/api/v1/namespaces/${encodeURIComponent(namespace)}/workflows/`;
  const headers: Record<string, string> = {
    accept: MEDIA_TYPE,
    'content-type': MEDIA_TYPE,
    ...(apiKey && { authorization: `Bearer ${apiKey}` }),
  };

  /** Throws an HttpError for every answer but a good one, and whatever `fetch` throws when there is none in time. */
  async function call<T>(orderId: string, path: string, within: number, body?: unknown): Promise<T> {
    const response = await fetch(`${base}${encodeURIComponent(orderWorkflowId(orderId))}${path}`, {
      headers: { ...headers, 'grpc-timeout': `${within}m` },
      signal: AbortSignal.timeout(within),
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    });
    // Read as bytes: the media type isn't one that every runtime takes for text.
    const answer = JSON.parse(new TextDecoder().decode(await response.arrayBuffer()));
    if (!response.ok) throw new HttpError(response.status, answer);
    return answer;
  }

  /** Undefined when Temporal has no such run, or no open one. */
  async function unlessMissing<T>(calling: Promise<T>): Promise<T | undefined> {
    try {
      return await calling;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw failed(error);
    }
  }

  function update(orderId: string, command: Command, args: unknown[], id: string, within: number, stage: string) {
    return call<UpdateResponse>(orderId, `/update/${COMMANDS[command].temporal}`, within, {
      waitPolicy: { lifecycleStage: `UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_${stage}` },
      request: { meta: { updateId: id }, input: { args: payloads(args) } },
    });
  }

  return {
    async start(order, requestHash) {
      try {
        const { runId } = await call<{ runId: string }>(order.order_id, '', ANSWER_WITHIN_MS, {
          requestId: crypto.randomUUID(),
          workflowType: { name: ORDER_WORKFLOW },
          taskQueue: { name: ORDERS_QUEUE },
          input: payloads([order]),
          memo: { fields: { [REQUEST_HASH_MEMO]: encoded(requestHash) } },
          workflowIdReusePolicy: 'WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE',
          workflowIdConflictPolicy: 'WORKFLOW_ID_CONFLICT_POLICY_FAIL',
          workflowTaskTimeout: `${WORKFLOW_TASK_TIMEOUT_MS / 1000}s`,
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
          workflowExecutionInfo: { execution: { runId: string }; memo?: { fields?: Record<string, Payload> } };
        }>(orderId, '', ANSWER_WITHIN_MS),
      );
      if (!found) return undefined;
      const { execution, memo } = found.workflowExecutionInfo;
      const hash = decoded(memo?.fields?.[REQUEST_HASH_MEMO]);
      return { run_id: execution.runId, request_hash: typeof hash === 'string' ? hash : undefined };
    },

    async update(orderId, command, args, id, within) {
      const end = Date.now() + within;
      let accepted = false;
      try {
        let answer = await update(orderId, command, args, id, within, 'ACCEPTED');
        accepted = answer.stage !== undefined && !/UNSPECIFIED|ADMITTED/.test(answer.stage);
        // There is no way to wait for an update but to send it again: its id makes it the same one.
        if (accepted && !answer.outcome)
          answer = await update(orderId, command, args, id, Math.max(1, end - Date.now()), 'COMPLETED');
        return answerOf(answer) ?? { outcome: accepted ? 'accepted' : 'unseen' };
      } catch (error) {
        if (isMissing(error)) return { outcome: 'closed' };
        if (isLost(error)) return { outcome: accepted ? 'accepted' : 'unseen' };
        throw failed(error);
      }
    },

    async signal(orderId, command, args) {
      const body = { requestId: crypto.randomUUID(), input: payloads(args) };
      const path = `/signal/${COMMANDS[command].temporal}`;
      return (await unlessMissing(call(orderId, path, ANSWER_WITHIN_MS, body))) !== undefined;
    },

    async query(orderId, within) {
      try {
        const { queryResult } = await call<{ queryResult?: { payloads?: Payload[] } }>(
          orderId,
          `/query/${STATUS_QUERY}`,
          within,
          {},
        );
        return decoded(queryResult?.payloads?.[0]) as WorkflowStatus | undefined;
      } catch {
        // Whatever kept it from answering: the caller has other sources.
        return undefined;
      }
    },
  };
}

/** Undefined while there is no outcome: a good answer without one says nothing yet. */
function answerOf({ outcome }: UpdateResponse): UpdateAnswer | undefined {
  if (outcome?.failure) {
    const { message = '', applicationFailureInfo } = outcome.failure;
    return refusalOf(applicationFailureInfo?.type, message, decoded(applicationFailureInfo?.details?.payloads?.[0]));
  }
  const answer = decoded(outcome?.success?.payloads?.[0]);
  return answer === undefined ? undefined : { outcome: 'decided', answer: answer as CommandAnswer };
}

/** A missing namespace has the same status, but is nobody's order. */
function isMissing(error: unknown): boolean {
  return (
    error instanceof HttpError && error.status === 404 && error.types.some((type) => /[./]NotFoundFailure$/.test(type))
  );
}

/** Whether there was no answer of Temporal's own, so that nobody knows what became of the call. */
function isLost(error: unknown): boolean {
  if (error instanceof HttpError) return [499, 502, 503, 504].includes(error.status);
  return !(error instanceof OrderError);
}

function failed(error: unknown): OrderError {
  if (error instanceof OrderError) return error;
  return unavailable(error, error instanceof HttpError && error.status === 429);
}

const payloads = (values: unknown[]) => ({ payloads: values.map(encoded) });

function encoded(value: unknown): Payload {
  const bytes = new TextEncoder().encode(JSON.stringify(value ?? null));
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');
  return { metadata: { encoding: JSON_PLAIN }, data: btoa(binary) };
}

/** Undefined when there is no payload, or none that is JSON. */
function decoded(payload: Payload | undefined): unknown {
  if (payload?.metadata?.encoding !== JSON_PLAIN) return undefined;
  const bytes = Uint8Array.from(atob(payload.data ?? ''), (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}
