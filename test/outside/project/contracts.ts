/** Every contract that a caller outside uses compiles without Temporal's or Node's types. */

import { COMMAND_INPUTS } from '@trellis/contracts/command-inputs';
import { COMMANDS, type Command } from '@trellis/contracts/commands';
import { ERRORS, type ErrorCode } from '@trellis/contracts/error';
import { type OrderInput, StartInput } from '@trellis/contracts/order';
import { OrderStatus } from '@trellis/contracts/order-status';
import { POLICIES } from '@trellis/contracts/policy';
import { isTerminal, type State } from '@trellis/contracts/states-and-steps';
import { ORDERS_QUEUE, orderWorkflowId, SHIPPING_QUEUE, STATUS_QUERY } from '@trellis/contracts/temporal';

const order: OrderInput = {
  order_id: 'o-1',
  payment_id: 'p-1',
  address: { line1: '123 Main', city: 'Chicago', zip: '60601' },
  items: [{ sku: 'ABC', qty: 2 }],
};
const command: Command = 'approve';
const code: ErrorCode = 'TOO_LATE';
const state: State = 'shipped';

export const used = [
  orderWorkflowId(order.order_id),
  [ORDERS_QUEUE, SHIPPING_QUEUE, STATUS_QUERY, COMMANDS[command].temporal, ERRORS[code].status, isTerminal(state)],
  [COMMAND_INPUTS[command], StartInput, OrderStatus, POLICIES.exercise.review_ms],
];
