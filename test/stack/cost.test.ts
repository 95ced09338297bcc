/** What an order costs on Temporal: history events, workflow tasks and billable actions. */
import { type Client, Connection } from '@temporalio/client';
import { createOrdersClient } from '@trellis/client';
import { createTemporalClient } from '@trellis/contracts/config/temporal-client';
import { orderWorkflowId, STATUS_QUERY } from '@trellis/contracts/temporal';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { anOrder, eventually } from '../fixtures.ts';
import { need } from '../servers.ts';
import { actionsSoFar, costsOf } from '../trials/cost.ts';

const { API_URL, TEMPORAL_ADDRESS, TEMPORAL_METRICS_URL = '' } = await need('api', 'temporal');
const api = createOrdersClient(API_URL);
let connection: Connection;
let temporal: Client;
/** The workflow of an ended order. */
let endedWorkflow: string;

beforeAll(async () => {
  connection = await Connection.connect({ address: TEMPORAL_ADDRESS });
  temporal = createTemporalClient(connection);
  const order = anOrder();
  endedWorkflow = orderWorkflowId(order.order_id);
  await api.start.mutate(order);
  await api.signal.cancel.mutate({ order_id: order.order_id });
  await temporal.workflow.getHandle(endedWorkflow).result();
});
afterAll(() => connection.close());

const QUERY = 'grpc_QueryWorkflow';
/** The queries that `settledActions` itself adds. */
const MARKS = 2;

/**
 * The server updates its counters late, one after the other. Once a first query made here is counted, the actions before it
 * are being written; once a second one is, all of them have been.
 */
async function settledActions(): Promise<number> {
  for (let mark = 0; mark < MARKS; mark += 1) {
    const before = await actionsSoFar(TEMPORAL_METRICS_URL, QUERY);
    await temporal.workflow.getHandle(endedWorkflow).query(STATUS_QUERY);
    await eventually(async () => (await actionsSoFar(TEMPORAL_METRICS_URL, QUERY)) > before);
  }
  return actionsSoFar(TEMPORAL_METRICS_URL);
}

/** Waits for the end of other orders: their actions would be counted too. */
const nothingRuns = () =>
  eventually(async () => (await temporal.workflow.count('ExecutionStatus = "Running"')).count === 0, 40_000);

test('an order that is approved by update and ships costs 32 events, 5 workflow tasks and 9 actions', async () => {
  await nothingRuns();
  const before = await settledActions();
  const order = anOrder();
  const { order_id } = order;
  await api.start.mutate(order);
  const view = () => api.get.query({ order_id }).catch(() => undefined);
  await eventually(async () => (await view())?.state === 'awaiting_approval');
  await api.signal.approve.mutate({ order_id });
  await eventually(async () => (await view())?.state === 'shipped');
  await temporal.workflow.getHandle(orderWorkflowId(order_id)).result();

  const [cost] = await costsOf({ TEMPORAL_ADDRESS }, [{ orderId: order_id, attempts: 1 }]);
  expect(cost).toEqual({ events: 32, workflowTasks: 5 });
  expect((await settledActions()) - before - MARKS).toBe(9);
});

test('the status of an ended order costs no action', async () => {
  const order = anOrder();
  await api.start.mutate(order);
  await api.signal.cancel.mutate({ order_id: order.order_id });
  await nothingRuns();
  const before = await settledActions();
  expect(await api.status.query({ order_id: order.order_id })).toMatchObject({ state: 'canceled' });
  expect((await settledActions()) - before - MARKS).toBe(0);
});
