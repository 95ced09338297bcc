export { OrderWorkflow } from './order.ts';
export { SettleWorkflow } from './settle.ts';
export { ShippingWorkflow } from './shipping.ts';
