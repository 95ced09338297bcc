/** The six steps of an order as they are without anything else: `npm run bench` shows what the product costs beside them. */
import { condition, defineSignal, executeChild, proxyLocalActivities, setHandler } from '@temporalio/workflow';
import type { BareOrder, Steps } from './worker.ts';

const steps = proxyLocalActivities<Steps>({ startToCloseTimeout: '5s', retry: { initialInterval: '50ms' } });
const approve = defineSignal('approve');

export async function order(id: string, body: BareOrder): Promise<string> {
  let approved = false;
  setHandler(approve, () => {
    approved = true;
  });
  await steps.receive(id, body);
  await steps.validate(id);
  if (!(await condition(() => approved, '10 minutes'))) return 'expired';
  await steps.charge(id, body);
  await executeChild(shipping, { args: [id], workflowId: `ship-${id}-1` });
  await steps.ship(id);
  return 'shipped';
}

export async function shipping(id: string): Promise<void> {
  await steps.prepare(id);
  await steps.dispatch(id);
}
