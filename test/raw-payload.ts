/** A payload converter that a Temporal client loads by path: it sends a value of `raw` with exactly that encoding and data. */
import { defaultPayloadConverter, type Payload, type PayloadConverter } from '@temporalio/common';

interface Raw {
  rawPayload: { encoding: string; data: string };
}

export const raw = (encoding: string, data: string): Raw => ({ rawPayload: { encoding, data } });

export const payloadConverter: PayloadConverter = {
  toPayload(value) {
    if (!isRaw(value)) return defaultPayloadConverter.toPayload(value);
    const { encoding, data } = value.rawPayload;
    return { metadata: { encoding: Buffer.from(encoding) }, data: Buffer.from(data) } satisfies Payload;
  },
  fromPayload: (payload) => defaultPayloadConverter.fromPayload(payload),
};

const isRaw = (value: unknown): value is Raw => typeof value === 'object' && value !== null && 'rawPayload' in value;
