import * as v from 'valibot';

/** A point in time, ISO 8601 in UTC with milliseconds. */
export const Timestamp = v.pipe(v.string(), v.isoTimestamp(), v.examples(['2026-01-01T12:00:00.000Z']));
