/** A line of an order's audit trail. */
import * as v from 'valibot';
import { EVENT_TYPES } from './lifecycle.ts';
import { Timestamp } from './timestamp.ts';

export const Event = v.object({
  type: v.picklist(EVENT_TYPES),
  payload: v.unknown(),
  ts: Timestamp,
});
export type Event = v.InferOutput<typeof Event>;
