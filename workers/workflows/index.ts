export { EraseWorkflow } from './erase-order.ts';
export { OrderWorkflow } from './order.ts';
export { SettleWorkflow } from './settle-abandoned.ts';
export { ShippingWorkflow } from './shipping-attempt.ts';
