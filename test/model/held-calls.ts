/** The companies' calls of one order, each held until the test says how it goes on. */
import { Context } from '@temporalio/activity';
import type { Call, Fault } from '../workflow-fixture.ts';

interface Held {
  call: Call;
  /** Has the company do what is asked, once. */
  hear(): Promise<unknown>;
  answer(): Promise<void>;
  fail(error: Error): void;
}

export function holdCalls() {
  /** By activity; one that was too slow has left earlier calls behind, which go on together with its last. */
  const underWay = new Map<string, Held[]>();
  const late: Held[][] = [];
  /** Activities that the order has left: what they go on asking comes late. */
  const left = new Map<string, Held[]>();
  /** Activities whose call was answered; one that had just given it up asks once more. */
  const answered = new Set<string>();
  const away = new Set<Call>();
  /** Calls that failed for good, so that Temporal tries again; and the attempt that did so last. */
  let failures = 0;
  let attempt = 1;
  let open = false;

  const fault =
    (call: Call): Fault =>
    <T>(real: () => Promise<T>): Promise<T> => {
      const { info } = Context.current();
      const { activityType, activityId, workflowExecution } = info;
      if (open || (call === 'close' && activityType !== 'close_parcel')) return real();
      attempt = info.attempt;
      if (away.has(call)) {
        failures += 1;
        return Promise.reject(garbage());
      }
      const { promise, resolve, reject } = Promise.withResolvers<T>();
      let said: Promise<T> | undefined;
      const hear = () => {
        said ??= real();
        return said;
      };
      const key = `${workflowExecution?.workflowId} ${activityId}`;
      if (answered.has(key)) return real();
      const held = { call, hear, answer: () => hear().then(resolve, reject), fail: reject };
      const nobodys = left.get(key);
      if (nobodys && !late.includes(nobodys)) return real();
      if (nobodys) nobodys.push(held);
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
    /** How many activities wait for the company's answer. */
    count: (call: Call): number => of(call).length,
    async hear(call: Call): Promise<void> {
      await Promise.all(of(call).flatMap(([, calls]) => calls.map((held) => held.hear())));
    },
    async answer(call: Call): Promise<void> {
      for (const [key] of of(call)) answered.add(key);
      await Promise.all(take(call).map((held) => held.answer()));
    },
    /** Whether the company has heard it or not, the call fails and is made anew: `at once`, or by `Temporal`. */
    fail(call: Call, retried: 'at once' | 'by Temporal'): void {
      for (const held of take(call)) held.fail(retried === 'at once' ? new Error('connection reset') : garbage());
    },
    /** Every call fails from now on. */
    goAway(call: Call): void {
      away.add(call);
      for (const held of take(call)) held.fail(garbage());
    },
    failures: (): number => failures,
    /** Milliseconds that Temporal waits before it tries once more. */
    retryIn: (): number => Math.min(RETRIES.maximumInterval, RETRIES.initialInterval * 2 ** (attempt - 1)),
    comeBack: (call: Call): boolean => away.delete(call),
    /** The calls under way are nobody's any more; so is, if `forGood`, what their activity makes of it. */
    leave(call: Call, forGood: boolean): void {
      const keys = of(call).map(([key]) => key);
      const calls = take(call);
      late.push(calls);
      if (forGood) for (const key of keys) left.set(key, calls);
    },
    lateCount: (): number => late.length,
    async wake(): Promise<void> {
      await Promise.all((late.shift() ?? []).map((held) => held.answer()));
    },
    /** Nothing is held any more. */
    async release(): Promise<void> {
      open = true;
      away.clear();
      const all = [...underWay.values(), ...late].flat();
      underWay.clear();
      await Promise.all(all.map((held) => held.answer()));
    },
  };
}

/** As workers/workflows/steps.ts has it. */
const RETRIES = { initialInterval: 100, maximumInterval: 10_000 };

/** The quick retries within an activity leave what they don't understand to Temporal's. */
const garbage = () => new TypeError('the answer makes no sense');
