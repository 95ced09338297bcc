/** The activities, one file each. */
import type { ActivityName } from '@trellis/contracts/activities';
import { createChargePayment } from './charge-payment.ts';
import { createCloseOrder } from './close-order.ts';
import { createCloseParcel } from './close-parcel.ts';
import { createDispatchCarrier } from './dispatch-carrier.ts';
import { createEraseOrder } from './erase-order.ts';
import { createLoadAbandoned } from './load-abandoned.ts';
import { createMarkShipped } from './mark-shipped.ts';
import { createPreparePackage } from './prepare-package.ts';
import { createReceiveOrder } from './receive-order.ts';
import { createRefundPayment } from './refund-payment.ts';
import { createRefuseCommand } from './refuse-command.ts';
import { createUpdateAddress } from './update-address.ts';
import { createValidateOrder } from './validate-order.ts';

type Deps<F extends (deps: never) => unknown> = Parameters<F>[0];

/** Implements the activities that contracts/activities.ts lists. The workflow that calls an activity chooses its queue. */
export function createActivities(
  deps: Deps<typeof createReceiveOrder> &
    Deps<typeof createValidateOrder> &
    Deps<typeof createChargePayment> &
    Deps<typeof createRefundPayment> &
    Deps<typeof createLoadAbandoned> &
    Deps<typeof createEraseOrder>,
) {
  return {
    receive_order: createReceiveOrder(deps),
    validate_order: createValidateOrder(deps),
    charge_payment: createChargePayment(deps),
    prepare_package: createPreparePackage(deps),
    dispatch_carrier: createDispatchCarrier(deps),
    mark_shipped: createMarkShipped(deps),
    refund_payment: createRefundPayment(deps),
    close_order: createCloseOrder(deps),
    close_parcel: createCloseParcel(deps),
    update_address: createUpdateAddress(deps),
    refuse_command: createRefuseCommand(deps),
    load_abandoned: createLoadAbandoned(deps),
    erase_order: createEraseOrder(deps),
  } satisfies Record<ActivityName, (input: never) => Promise<unknown>>;
}

export type Activities = ReturnType<typeof createActivities>;
