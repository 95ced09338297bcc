export { OrderWorkflow } from './order.ts';
export { ShippingWorkflow } from './shipping.ts';
