import { defaultPayloadConverter, type Payload, type PayloadConverter } from '@temporalio/common';
import { ENCRYPTED, ENCRYPTION_KEY_ID } from '@trellis/contracts/temporal';

/**
 * Temporal's default converter, except that a payload that can't be decoded becomes null, which workflows refuse like any other
 * invalid argument. Any caller may send any bytes, and an error here would fail the workflow task again and again. That is right for one
 * that this worker has no key for: it came through the codec, and the order must wait for a worker that has.
 */
export const payloadConverter: PayloadConverter = {
  toPayload: (value) => defaultPayloadConverter.toPayload(value),
  fromPayload<T>(payload: Payload): T {
    try {
      return defaultPayloadConverter.fromPayload<T>(payload);
    } catch {
      if (isEncrypted(payload)) throw new Error('a payload is encrypted, and this worker has no key for it');
      return null as T;
    }
  },
};

/**
 * Whether this product's codec encrypted the payload: it names the key. The encoding is compared byte by byte, as a caller may send any
 * bytes there, and the decoder of a workflow's VM throws on some.
 */
const isEncrypted = ({ metadata }: Payload): boolean => {
  const { encoding, [ENCRYPTION_KEY_ID]: keyId } = metadata ?? {};
  const hasEncoding =
    encoding?.length === ENCRYPTED.length && encoding.every((byte, at) => byte === ENCRYPTED.charCodeAt(at));
  return hasEncoding && keyId !== undefined;
};
