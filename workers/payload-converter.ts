import { defaultPayloadConverter, type Payload, type PayloadConverter } from '@temporalio/common';

/**
 * Any caller may send any bytes. What can't be read arrives as null, which the workflow refuses like any other bad
 * argument; an error here would fail its task again and again and stall the order.
 */
export const payloadConverter: PayloadConverter = {
  toPayload: (value) => defaultPayloadConverter.toPayload(value),
  fromPayload<T>(payload: Payload): T {
    try {
      return defaultPayloadConverter.fromPayload<T>(payload);
    } catch {
      return null as T;
    }
  },
};
