import {
  ApplicationFailure,
  type Client,
  isGrpcServiceError,
  WorkflowExecutionAlreadyStartedError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from '@temporalio/client';
import { WorkflowNotFoundError } from '@temporalio/common';
import { COMMANDS, type CommandAnswer } from '@trellis/contracts/command';
import type { OrderError } from '@trellis/contracts/error';
import type { WorkflowStatus } from '@trellis/contracts/status';
import {
  ORDER_WORKFLOW,
  ORDERS_QUEUE,
  orderWorkflowId,
  REQUEST_HASH_MEMO,
  STATUS_QUERY,
  WORKFLOW_TASK_TIMEOUT_MS,
} from '@trellis/contracts/temporal';
import pTimeout, { TimeoutError } from 'p-timeout';
import { ANSWER_WITHIN_MS, refusalOf, type TemporalPort, unavailable } from './port.ts';

/** After its deadline a call that is under way has so long to say how it ended. */
const GRACE_MS = 100;

/** The Temporal port over gRPC, for Node. The client's connection may be lazy. */
export function createGrpcTemporal(client: Client): TemporalPort {
  const handleOf = (orderId: string) => client.workflow.getHandle(orderWorkflowId(orderId));

  /** The client's own deadline doesn't end the pause between two of its tries, which may be seconds long. */
  const inTime = <T>(within: number, work: () => Promise<T>): Promise<T> =>
    pTimeout(client.withDeadline(Date.now() + within, work), { milliseconds: within + GRACE_MS });

  /** Runs a call under a deadline; undefined when Temporal has no such run, or no open one. */
  async function call<T>(within: number, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await inTime(within, work);
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return undefined;
      throw failed(error);
    }
  }

  return {
    async start(order, requestHash) {
      try {
        const handle = await inTime(ANSWER_WITHIN_MS, () =>
          client.workflow.start(ORDER_WORKFLOW, {
            workflowId: orderWorkflowId(order.order_id),
            taskQueue: ORDERS_QUEUE,
            args: [order],
            memo: { [REQUEST_HASH_MEMO]: requestHash },
            workflowIdReusePolicy: 'REJECT_DUPLICATE',
            workflowIdConflictPolicy: 'FAIL',
            workflowTaskTimeout: WORKFLOW_TASK_TIMEOUT_MS,
          }),
        );
        return { run_id: handle.firstExecutionRunId };
      } catch (error) {
        if (error instanceof WorkflowExecutionAlreadyStartedError) return undefined;
        throw failed(error);
      }
    },

    find: (orderId) =>
      call(ANSWER_WITHIN_MS, async () => {
        const { runId, memo } = await handleOf(orderId).describe();
        const hash = memo?.[REQUEST_HASH_MEMO];
        return { run_id: runId, request_hash: typeof hash === 'string' ? hash : undefined };
      }),

    async update(orderId, command, args, id, within) {
      let accepted = false;
      try {
        const answer = await inTime(within, async () => {
          const update = await handleOf(orderId).startUpdate<CommandAnswer, [unknown]>(COMMANDS[command].temporal, {
            args: args as [unknown],
            updateId: id,
            waitForStage: 'ACCEPTED',
          });
          accepted = true;
          return update.result();
        });
        return { outcome: 'decided', answer };
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return { outcome: 'closed' };
        if (error instanceof WorkflowUpdateFailedError) {
          const cause = error.cause instanceof ApplicationFailure ? error.cause : undefined;
          return refusalOf(cause?.type, error.cause?.message ?? error.message, cause?.details?.[0]);
        }
        if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError || error instanceof TimeoutError)
          return { outcome: accepted ? 'accepted' : 'unseen' };
        throw failed(error);
      }
    },

    signal: async (orderId, command, args) =>
      (await call(ANSWER_WITHIN_MS, async () => {
        await handleOf(orderId).signal(COMMANDS[command].temporal, ...args);
        return true;
      })) ?? false,

    async query(orderId, within) {
      try {
        return await call(within, () => handleOf(orderId).query<WorkflowStatus>(STATUS_QUERY));
      } catch {
        // Whatever kept it from answering: the caller has other sources.
        return undefined;
      }
    },
  };
}

const RESOURCE_EXHAUSTED = 8;

function failed(error: unknown): OrderError {
  for (let cause = error; cause instanceof Error; cause = cause.cause)
    if (isGrpcServiceError(cause) && cause.code === RESOURCE_EXHAUSTED) return unavailable(error, true);
  return unavailable(error, false);
}
