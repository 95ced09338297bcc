/** Holds the calls of one order to the payment company and the carrier until the test decides their outcome. */
import { Context } from '@temporalio/activity';
import type { Call, Fault } from '../workflow-fixture.ts';

interface Held {
  call: Call;
  /** Lets the company carry out the call, once, and holds the answer. */
  carryOut(): Promise<unknown>;
  answer(): Promise<void>;
  fail(error: Error): void;
}

export function holdCalls() {
  /** Held calls by activity. An activity whose call timed out has several, which are answered together. */
  const underWay = new Map<string, Held[]>();
  const late: Held[][] = [];
  /** Activities that the order has abandoned: their further calls are late ones. */
  const abandonedBy = new Map<string, Held[]>();
  /** Activities whose call was answered; when it had just timed out, the activity repeats it. */
  const answered = new Set<string>();
  const down = new Set<Call>();
  /** Number of failures that were left to Temporal's retries, and the Temporal attempt of the last call. */
  let failures = 0;
  let attempt = 1;
  let open = false;

  const fault =
    (call: Call): Fault =>
    <T>(real: () => Promise<T>): Promise<T> => {
      const { info } = Context.current();
      const { activityType, activityId, isLocal, workflowExecution } = info;
      if (open || (call === 'close' && activityType !== 'close_parcel')) return real();
      // A local activity that fails is run remotely at once.
      attempt = isLocal ? 0 : info.attempt;
      if (down.has(call)) {
        failures += 1;
        return Promise.reject(invalidAnswer());
      }
      const { promise, resolve, reject } = Promise.withResolvers<T>();
      let outcome: Promise<T> | undefined;
      const carryOut = () => {
        outcome ??= real();
        return outcome;
      };
      // A local activity goes on as a remote one; two cancels close the parcel's key at the same time.
      const key = `${workflowExecution?.workflowId} ${call === 'close' ? activityId : activityType}`;
      if (answered.has(key)) return real();
      const held = { call, carryOut, answer: () => carryOut().then(resolve, reject), fail: reject };
      const abandoned = abandonedBy.get(key);
      if (abandoned && !late.includes(abandoned)) return real();
      if (abandoned) abandoned.push(held);
      else underWay.set(key, [...(underWay.get(key) ?? []), held]);
      return promise;
    };

  const of = (call: Call) => [...underWay].filter(([, calls]) => calls[0]?.call === call);
  const take = (call: Call): Held[] =>
    of(call).flatMap(([key, calls]) => {
      underWay.delete(key);
      return calls;
    });

  return {
    faults: { charge: fault('charge'), refund: fault('refund'), dispatch: fault('dispatch'), close: fault('close') },
    /** Number of activities whose call is held. */
    count: (call: Call): number => of(call).length,
    async carryOut(call: Call): Promise<void> {
      await Promise.all(of(call).flatMap(([, calls]) => calls.map((held) => held.carryOut())));
    },
    async answer(call: Call): Promise<void> {
      for (const [key] of of(call)) answered.add(key);
      await Promise.all(take(call).map((held) => held.answer()));
    },
    /** Fails the held call, carried out or not; the activity retries it `at once`, or `by Temporal` after its backoff. */
    fail(call: Call, retried: 'at once' | 'by Temporal'): void {
      for (const held of take(call)) held.fail(retried === 'at once' ? new Error('connection reset') : invalidAnswer());
    },
    /** Fails the held call and every further one. */
    goDown(call: Call): void {
      down.add(call);
      for (const held of take(call)) held.fail(invalidAnswer());
    },
    failures: (): number => failures,
    /** Milliseconds of Temporal's backoff before the next attempt. */
    retryIn: (): number =>
      attempt === 0 ? 0 : Math.min(RETRIES.maximumInterval, RETRIES.initialInterval * 2 ** (attempt - 1)),
    comeUp: (call: Call): boolean => down.delete(call),
    /** Turns the held calls into late ones; with `forGood` also the later calls of their activities. */
    abandon(call: Call, forGood: boolean): void {
      const keys = of(call).map(([key]) => key);
      const calls = take(call);
      late.push(calls);
      if (forGood) for (const key of keys) abandonedBy.set(key, calls);
    },
    lateCount: (): number => late.length,
    async answerLate(): Promise<void> {
      await Promise.all((late.shift() ?? []).map((held) => held.answer()));
    },
    /** Answers all held calls, and holds none from now on. */
    async release(): Promise<void> {
      open = true;
      down.clear();
      const all = [...underWay.values(), ...late].flat();
      underWay.clear();
      await Promise.all(all.map((held) => held.answer()));
    },
  };
}

/** As in workers/workflows/run-activity.ts. */
const RETRIES = { initialInterval: 100, maximumInterval: 10_000 };

/** An error that an activity does not retry itself but leaves to Temporal. */
const invalidAnswer = () => new TypeError('the answer is invalid');
