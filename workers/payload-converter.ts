import { defaultPayloadConverter, type Payload, type PayloadConverter } from '@temporalio/common';

/**
 * Temporal's default converter, except that a payload that can't be decoded becomes null, which workflows refuse like any other
 * invalid argument. Any caller may send any bytes, and an error here would fail the workflow task again and again.
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
