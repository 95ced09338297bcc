/** The activities of both queues, one file each. */
import { createChargePayment } from './charge-payment.ts';
import { createCloseOrder } from './close-order.ts';
import { createCloseParcel } from './close-parcel.ts';
import { createDispatchCarrier } from './dispatch-carrier.ts';
import { createLoadAbandoned } from './load-abandoned.ts';
import { createMarkShipped } from './mark-shipped.ts';
import { createPreparePackage } from './prepare-package.ts';
import { createReceiveOrder } from './receive-order.ts';
import { createRefundPayment } from './refund-payment.ts';
import { createRefuseCommand } from './refuse-command.ts';
import { createUpdateAddress } from './update-address.ts';
import { createValidateOrder } from './validate-order.ts';

type Deps<F extends (deps: never) => unknown> = Parameters<F>[0];

/** On orders-tq. */
export function createOrderActivities(
  deps: Deps<typeof createReceiveOrder> &
    Deps<typeof createChargePayment> &
    Deps<typeof createRefundPayment> &
    Deps<typeof createLoadAbandoned>,
) {
  return {
    receive_order: createReceiveOrder(deps),
    validate_order: createValidateOrder(deps),
    charge_payment: createChargePayment(deps),
    mark_shipped: createMarkShipped(deps),
    refund_payment: createRefundPayment(deps),
    close_order: createCloseOrder(deps),
    close_parcel: createCloseParcel(deps),
    update_address: createUpdateAddress(deps),
    load_abandoned: createLoadAbandoned(deps),
    refuse_command: createRefuseCommand(deps),
  };
}

/** On shipping-tq. */
export function createShippingActivities(deps: Deps<typeof createPreparePackage> & Deps<typeof createDispatchCarrier>) {
  return {
    prepare_package: createPreparePackage(deps),
    dispatch_carrier: createDispatchCarrier(deps),
  };
}

export type OrderActivities = ReturnType<typeof createOrderActivities>;
export type ShippingActivities = ReturnType<typeof createShippingActivities>;
