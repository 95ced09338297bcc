/** The Temporal port over gRPC, for Node. */
import {
  ApplicationFailure,
  type Client,
  isGrpcServiceError,
  QueryNotRegisteredError,
  QueryRejectedError,
  ServiceError,
  WorkflowExecutionAlreadyStartedError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from '@temporalio/client';
import { defaultPayloadConverter, NamespaceNotFoundError, RawValue, WorkflowNotFoundError } from '@temporalio/common';
import { COMMANDS, type CommandAnswer } from '@trellis/contracts/commands';
import { OrderError } from '@trellis/contracts/error';
import type { WorkflowStatus } from '@trellis/contracts/order-status';
import { inClear } from '@trellis/contracts/payload-codec';
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
import pTimeout, { TimeoutError } from 'p-timeout';
import {
  CALL_TIMEOUT_MS,
  isDead,
  refusalOf,
  TAKES_NO_UPDATE,
  type TemporalPort,
  unavailable,
  undefinedIfUnavailable,
} from './port.ts';

/** Extra time for the client to report its own deadline error. */
const GRACE_MS = 100;

/** Creates the port on a client, whose connection may be lazy; the caller closes it. */
export function createGrpcTemporal(client: Client): TemporalPort {
  const handleOf = (orderId: string) => client.workflow.getHandle(orderWorkflowId(orderId));

  /** The client's own deadline doesn't interrupt the pause between two of its retries, which may take seconds. */
  const withTimeout = <T>(timeoutMs: number, work: () => Promise<T>): Promise<T> =>
    pTimeout(client.withDeadline(Date.now() + timeoutMs, work), {
      milliseconds: timeoutMs + GRACE_MS,
      message: `no answer within ${timeoutMs} ms`,
    });

  /** Runs a call under a timeout; undefined when Temporal has no such run, or none that is running. */
  async function call<T>(timeoutMs: number, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await withTimeout(timeoutMs, work);
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return undefined;
      throw failed(error);
    }
  }

  return {
    async start(order, requestHash, afterDeadRun = false) {
      try {
        const handle = await withTimeout(CALL_TIMEOUT_MS, () =>
          client.workflow.start(ORDER_WORKFLOW, {
            workflowId: orderWorkflowId(order.order_id),
            taskQueue: ORDERS_QUEUE,
            args: [order],
            memo: {
              [REQUEST_HASH_MEMO]: RawValue.fromPayload(inClear(defaultPayloadConverter.toPayload(requestHash))),
            },
            workflowIdReusePolicy: afterDeadRun ? 'ALLOW_DUPLICATE_FAILED_ONLY' : 'REJECT_DUPLICATE',
            workflowIdConflictPolicy: 'FAIL',
            workflowTaskTimeout: WORKFLOW_TASK_TIMEOUT_MS[policyNameOf(order.policy)],
          }),
        );
        return { run_id: handle.firstExecutionRunId };
      } catch (error) {
        if (error instanceof WorkflowExecutionAlreadyStartedError) return undefined;
        throw failed(error);
      }
    },

    find: (orderId) =>
      call(CALL_TIMEOUT_MS, async () => {
        const { runId, memo, status, startTime, raw } = await handleOf(orderId).describe();
        const hash = memo?.[REQUEST_HASH_MEMO];
        return {
          run_id: raw.workflowExecutionInfo?.firstRunId || runId,
          started_at: startTime.toISOString(),
          request_hash: typeof hash === 'string' ? hash : undefined,
          dead: isDead(status.name),
        };
      }),

    async update(orderId, command, args, id, timeoutMs) {
      let accepted = false;
      try {
        const answer = await withTimeout(timeoutMs, async () => {
          const update = await handleOf(orderId).startUpdate<CommandAnswer, [unknown]>(COMMANDS[command].temporal, {
            args: args as [unknown],
            updateId: id,
            waitForStage: 'ACCEPTED',
          });
          accepted = true;
          return update.result();
        });
        // Null: it is encrypted, and this API has no key for it.
        return answer ? { outcome: 'decided', answer } : { outcome: 'accepted' };
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return { outcome: 'no_open_run' };
        if (error instanceof WorkflowUpdateFailedError) {
          const cause = error.cause instanceof ApplicationFailure ? error.cause : undefined;
          return refusalOf(cause?.type, error.cause?.message ?? error.message, cause?.details?.[0]);
        }
        if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError || error instanceof TimeoutError)
          return { outcome: accepted ? 'accepted' : 'not_accepted' };
        if (causesOf(error).some((cause) => isGrpcServiceError(cause) && TAKES_NO_UPDATE.includes(cause.code)))
          return { outcome: 'not_accepted' };
        throw failed(error);
      }
    },

    signal: async (orderId, command, args) =>
      (await call(CALL_TIMEOUT_MS, async () => {
        await handleOf(orderId).signal(COMMANDS[command].temporal, ...args);
        return true;
      })) ?? false,

    query: (orderId, timeoutMs) =>
      undefinedIfUnavailable(call(timeoutMs, () => handleOf(orderId).query<WorkflowStatus>(STATUS_QUERY))),

    async erase(order_id, erased_by) {
      await call(CALL_TIMEOUT_MS, () =>
        client.workflow.start(ERASE_WORKFLOW, {
          workflowId: eraseWorkflowId(order_id),
          taskQueue: ORDERS_QUEUE,
          args: [{ order_id, erased_by } satisfies EraseInput],
          workflowIdConflictPolicy: 'USE_EXISTING',
        }),
      );
    },

    async ping(timeoutMs) {
      const { namespace } = client.options;
      await call(timeoutMs, () => client.workflowService.describeNamespace({ namespace }));
    },
  };
}

/** What a call rejects with: an OrderError when Temporal or the connection failed, the error itself when it is a bug. */
function failed(error: unknown): unknown {
  const causes = causesOf(error);
  const ofKeys = causes.find((cause) => cause instanceof OrderError);
  if (ofKeys) return ofKeys;
  const reported = causes.find(isGrpcServiceError);
  if (reported) return unavailable(error, reported.code);
  if (error instanceof NamespaceNotFoundError) return unavailable(error, NOT_FOUND);
  return FAILURES.some((type) => error instanceof type) || causes.some(isConnectionError) ? unavailable(error) : error;
}

const NOT_FOUND = 5;

const FAILURES = [TimeoutError, QueryNotRegisteredError, QueryRejectedError, WorkflowUpdateRPCTimeoutOrCancelledError];

/** The client wraps every error in a ServiceError. grpc-js reports a failed connection as a plain Error; a bug throws a subclass, such as TypeError. */
function isConnectionError(error: Error): boolean {
  const { cause } = error;
  return error instanceof ServiceError && cause instanceof Error && Object.getPrototypeOf(cause) === Error.prototype;
}

function causesOf(error: unknown): Error[] {
  return error instanceof Error ? [error, ...causesOf(error.cause)] : [];
}
