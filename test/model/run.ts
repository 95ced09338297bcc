/** One order and its model: applies each act to both and compares them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { WorkflowNotFoundError, WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { COMMANDS, type CommandAnswer } from '@trellis/contracts/commands';
import type { OrderView } from '@trellis/contracts/order';
import { ORDER_WORKFLOW, ORDERS_QUEUE } from '@trellis/contracts/temporal';
import { expect } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import { type Call, fillHistory, type HistoryEvent, type PlacedOrder, type Testbed } from '../workflow-fixture.ts';
import { holdCalls } from './held-calls.ts';
import { OrderModel, type Plan, POLICY, type SentCommand, type Span, Undecidable } from './order-model.ts';

/** A command as a caller sends it, and its entry in the model. */
export interface Message {
  sent: SentCommand;
  args: unknown[];
  /** Sent instead of `args`, as these bytes. */
  raw?: string;
}

/** Time within which the order must agree with its model. */
const AGREE_WITHIN_MS = 5_000;
const SKIP_WITHIN_MS = 5_000;
const STOPS_RETRYING_WITHIN_MS = 2_000;
/** Two moments closer than this can't be ordered. */
const CLOSE_MS = 100;
/** Longest act by the server's clock; a run with a longer one is undecidable. */
const ALLOWANCE_MS = 10_000;
/** No act happens this shortly before the stage's time limit: the order of the two would be unknown. */
const MARGIN_MS = 15_000;

export type ModelRun = Awaited<ReturnType<typeof beginRun>>;

export async function beginRun(bed: Testbed, plan: Plan, withStart?: Message) {
  const { encryptingClient: client, env } = bed;
  const calls = holdCalls();
  const answers: { sent: SentCommand; real: { answer?: string } }[] = [];
  const clock = () => env.currentTimeMs();
  const given = anOrder({ address: addressOf(plan.city) });
  const order = plan.card === 'good' ? given : { ...given, payment_id: `declined-${given.order_id}` };

  await bed.prepare(order.order_id);
  const before = await clock();
  const { sent, args } = withStart ?? {};
  const placed: PlacedOrder = await bed.place(order, {
    client,
    faults: calls.faults,
    args: [{ ...order, policy: POLICY, ...(plan.valid ? {} : { items: null }) }],
    workflowRunTimeout: plan.timeoutMs,
    ...(sent && { signal: COMMANDS[sent.command].temporal, signalArgs: args ?? [] }),
  });
  const model = new OrderModel(plan, { from: before, to: await clock() });

  /** Applies an act to both and waits until they agree; `longer` is added to the allowance. */
  async function act(real: () => unknown, modeled: () => void, longer = 0): Promise<void> {
    const from = await clock();
    await real();
    model.now = { from, to: from + ALLOWANCE_MS + longer };
    modeled();
    while (calls.lateCount() < model.late.length) calls.abandon(model.late[calls.lateCount()]?.call ?? 'charge', true);
    await agree();
    const to = await clock();
    if (to > model.now.to) throw new Undecidable();
    model.now.to = to;
    if (model.entered === model.now) model.entered = await enteredAt();
  }

  /** Moves the server's clock, which stands still while an activity runs. */
  async function skip(ms: number): Promise<void> {
    await env.connection.withAbortSignal(AbortSignal.timeout(SKIP_WITHIN_MS), () => env.sleep(ms));
  }

  /** Polls until everything is as the model expects; costly observations are made only once the cheap ones agree. */
  async function agree(): Promise<void> {
    const wanted = expected(model, answers);
    for (const end = Date.now() + AGREE_WITHIN_MS; ; await sleep(3)) {
      const late = Date.now() > end;
      let actual: Partial<Observation> = fromTest();
      for (const look of [fromSql, fromTemporal])
        if (
          late ||
          Object.entries(actual).every(([key, value]) => isDeepStrictEqual(value, wanted[key as keyof Observation]))
        )
          actual = { ...actual, ...(await look()) };
      if (isDeepStrictEqual(actual, wanted)) return;
      if (late) return expect(actual).toEqual(wanted);
    }
  }

  /** When the order entered its stage, exactly if the history shows it. */
  async function enteredAt(): Promise<Span> {
    const { now, stage } = model;
    if (stage === 'review') return exactly((await timersOf(placed))[0] ?? now.to);
    if (stage === 'backoff') return exactly((await backoffs(placed)).at(-1)?.since ?? now.to);
    return now;
  }

  /** Observed in this process. */
  const fromTest = () => ({
    answers: answers.map(({ sent, real }) => (oneOf(sent.answer, real.answer) ? sent.answer : real.answer)),
    held: CALLS.map((call) => calls.count(call)),
  });

  /** Observed in SQL and the companies' books. */
  async function fromSql() {
    const [view, books] = await Promise.all([placed.view().catch(() => undefined), bed.books(placed.id)]);
    return {
      state: view?.state,
      city: (view?.address as { city?: string } | null | undefined)?.city,
      payments: view?.payments.map(({ status, amount }) => `${status} ${amount}`),
      shipments: view?.shipments.map(({ attempt, status, payload }) => `${attempt} ${status} ${cityOf(payload)}`),
      events: view && inOrderOf(model.events, view.events.map(eventName)),
      charges: books.charges,
      parcel: books.parcel?.status === 'taken' ? cityOf({ address: books.parcel.address }) : books.parcel?.status,
    };
  }

  /** Observed through Temporal. */
  async function fromTemporal() {
    const ended = model.stage === 'ended';
    const [status, waits, row, result] = await Promise.all([
      placed.status(),
      model.stage === 'backoff' ? backoffs(placed) : [],
      ended ? placed.row() : undefined,
      ended ? Promise.race([placed.end(), sleep(AGREE_WITHIN_MS, 'no end', { ref: false })]) : undefined,
    ]);
    return {
      result,
      status: [status.state, status.step, status.approved, status.cancel_reason, status.child_attempts, status.reason],
      row: row && [row.step, row.approved, row.cancel_reason, row.child_attempts, row.reason],
      backingOff: waits.at(-1)?.after ?? 0,
    };
  }

  /** Skips time within the stage's limit. */
  const pass = (ms: number) =>
    act(
      () => skip(ms),
      () => {},
      ms,
    );

  const self = {
    model,
    bed,
    placed,

    /** Whether an act is possible; first lets the stage time out if its limit is near. */
    async ready(possible: (model: OrderModel) => boolean): Promise<boolean> {
      const { timer } = model;
      if (timer && (await clock()) > timer.from - MARGIN_MS) {
        if (model.stage === 'charge' || model.stage === 'ship') throw new Undecidable();
        await self.timeOut();
      }
      return possible(model);
    },

    send: ({ sent, args, raw }: Message) =>
      act(
        () => {
          const real: { answer?: string } = {};
          if (sent.by === 'temporal') return placed.handle.cancel();
          if (sent.by === 'signal')
            return (
              raw === undefined ? placed.signal(sent.command, ...args) : placed.signalRaw(sent.command, raw)
            ).catch((error: unknown) => {
              if (!(isNotFound(error) && model.stage === 'ended')) throw error;
            });
          answers.push({ sent, real });
          void answerOf(placed.update(sent.command, args, sent.id)).then((answer) => {
            real.answer = answer;
          });
          return undefined;
        },
        () => model.receive(sent),
      ),

    carryOut: (call: Call) =>
      act(
        () => calls.carryOut(call),
        () => void model.carryOut(call),
      ),

    async answer(call: Call): Promise<void> {
      while (call === 'refund' && !plan.lateCallsAfterEnd && model.late.length > 0) await self.answerLate();
      let first = '';
      await act(
        async () => {
          const undecided = model.cancels.map(({ reason }) => reason);
          await calls.answer(call);
          // Temporal decides which of several cancels is first.
          if (call === 'close' && undecided.length > 0) first = await firstOf(undecided);
        },
        () => model.completes(call, first),
      );
    },

    fail: (call: Call, retried: 'at once' | 'by Temporal') =>
      act(
        () => calls.fail(call, retried),
        () => model.callFails(call),
        retried === 'at once' ? 0 : 1_000,
      ),

    /** The held call times out after two seconds and is repeated. */
    hang: (call: 'charge' | 'dispatch') =>
      act(
        () => calls.abandon(call, false),
        () => model.callTimesOut(call),
        3_000,
      ),

    answerLate: () =>
      act(
        async () => {
          await calls.answerLate();
          await bed.transactionsSettled();
        },
        () => model.lateCallAnswered(),
      ),

    /** Skips a share of the time that is left in the stage. */
    async passTime(share: number): Promise<void> {
      const left = (model.timer?.from ?? 0) - MARGIN_MS - (await clock());
      if (left > 0) await pass(Math.floor(left * share));
    },

    /** Lets the stage time out; the company that it waits for is down until then. */
    async timeOut(): Promise<void> {
      const { timer, stage } = model;
      const call = stage === 'charge' ? 'charge' : stage === 'ship' ? 'dispatch' : undefined;
      if (!call) {
        const left = Math.max(0, (timer?.to ?? 0) - (await clock())) + 5;
        return act(
          () => skip(left),
          () => model.timesOut(),
          left,
        );
      }
      calls.goDown(call);
      // Temporal stops retrying once the next attempt would start after the deadline.
      const end = timer ?? model.now;
      let from = await clock();
      while (from + calls.retryIn() < end.to + CLOSE_MS) {
        if (from + calls.retryIn() > end.from - CLOSE_MS) throw new Undecidable();
        const failures = calls.failures();
        await skip(calls.retryIn() + 1);
        await eventually(async () => calls.failures() > failures, AGREE_WITHIN_MS, 2);
        from = await clock();
      }
      const stopped = async () =>
        calls.count('refund') > 0 || (await backoffs(placed)).at(-1)?.after === model.attempts.length;
      // If it has not stopped, it retries at a moment that can't be predicted.
      await eventually(stopped, STOPS_RETRYING_WITHIN_MS, 10).catch(() => {
        throw new Undecidable();
      });
      await act(
        () => calls.comeUp(call),
        () => model.timesOut(),
      );
    },

    /** Fills the history of the order's run, so that another run continues it. */
    fillHistory: () =>
      act(
        () => fillHistory(placed, 'many small'),
        () => model.continuesAsNew(),
        1_000,
      ),

    /** Another order uses the same payment id. */
    otherOrder: () =>
      act(
        async () => {
          const otherOrder = await bed.placeApproved(anOrder({ payment_id: order.payment_id }), { client });
          const free = model.paymentUsedBy === 'none';
          expect(await otherOrder.end()).toBe(free && plan.card === 'good' ? 'shipped' : 'failed');
          const { reason } = await otherOrder.row();
          expect(reason).toBe(free ? (plan.card === 'good' ? null : 'PAYMENT_DECLINED') : 'PAYMENT_CONFLICT');
        },
        () => {
          if (model.paymentUsedBy === 'none') model.paymentUsedBy = 'other order';
        },
        2_000,
      ),

    /** Another caller starts the same order, under another workflow id or under its own. */
    startAgain: (how: 'elsewhere' | 'use existing' | 'refuse') =>
      act(
        async () => {
          const again = { ...order, items: [{ sku: 'XYZ', qty: 9 }] };
          if (how === 'elsewhere') {
            const other = await bed.place(again, { workflowId: freshId('other'), client });
            expect(await other.end()).toBe(model.recorded);
            return;
          }
          const existing = how === 'use existing' && model.stage !== 'ended';
          const start = client.workflow.start(ORDER_WORKFLOW, {
            workflowId: placed.handle.workflowId,
            taskQueue: ORDERS_QUEUE,
            args: [again],
            workflowIdReusePolicy: 'REJECT_DUPLICATE',
            workflowIdConflictPolicy: how === 'use existing' ? 'USE_EXISTING' : 'FAIL',
          });
          if (existing) expect((await start).firstExecutionRunId).toBe((await placed.handle.describe()).runId);
          else await expect(start).rejects.toMatchObject({ name: 'WorkflowExecutionAlreadyStartedError' });
        },
        () => {},
        1_000,
      ),

    /** Sends a signal that is not a command. */
    foreignSignal: (name: string, args: unknown[]) =>
      act(
        () => placed.handle.signal(name, ...args),
        () => {},
      ),

    /** Stops the workers, sends the signals or lets the stage time out, and starts new workers. */
    restart: (replace: (meanwhile: () => Promise<void>) => Promise<void>, messages: Message[], late: boolean) => {
      const { stage } = model;
      return act(
        () =>
          replace(async () => {
            for (const { sent, args } of messages) await placed.signal(sent.command, ...args);
            const left = (model.timer?.to ?? 0) - (await clock()) + 5;
            if (late) await skip(Math.max(1, left));
          }),
        () => {
          model.receiveTogether(messages.map(({ sent }) => sent));
          model.react();
          if (late && model.stage === stage) model.timesOut();
        },
        late ? (model.timer?.to ?? 0) - model.now.from + 3_000 : 3_000,
      );
    },

    /** Brings the order to its end and checks it. */
    async finish(): Promise<void> {
      for (let n = 0; model.stage !== 'ended'; n += 1) {
        if (n > 60) throw new Error(`the order does not end: it is at ${model.stage}`);
        if (model.stage === 'undecided' || model.stage === 'answering' || model.cancels.length > 0)
          await self.answer('close');
        else if (model.stage === 'charge') await self.answer('charge');
        else if (model.stage === 'ship') await self.answer('dispatch');
        else if (model.stage === 'refund') await self.answer('refund');
        else await self.timeOut();
      }
      while (model.late.length > 0) await self.answerLate();
      await calls.release();
      await bed.transactionsSettled();
      await agree();
    },

    /** Releases all held calls, after a failure. */
    release: () => calls.release(),
  };

  async function firstOf(reasons: string[]): Promise<string> {
    if (reasons.length === 1 || (model.parcel !== undefined && model.parcel !== 'closed')) return reasons[0] ?? '';
    const end = Date.now() + AGREE_WITHIN_MS;
    while (Date.now() < end) {
      const { cancel_reason } = await placed.status();
      if (cancel_reason !== null && reasons.includes(cancel_reason)) return cancel_reason;
      await sleep(3);
    }
    throw new Error(`none of the cancels ${reasons} was accepted`);
  }

  await act(
    () => {},
    () => model.begin(sent),
  );
  return self;
}

const CALLS = ['charge', 'dispatch', 'close', 'refund'] as const;

export const addressOf = (city: string) => ({ line1: '1 Main', city });
const cityOf = (payload: unknown) => (payload as { address?: { city?: string } } | null)?.address?.city;

interface Observation {
  answers: (string | undefined)[];
  /** Number of held calls of each kind. */
  held: number[];
  state: string | undefined;
  city: string | undefined;
  payments: string[] | undefined;
  shipments: string[] | undefined;
  events: string[] | undefined;
  charges: string[];
  parcel: string | undefined;
  result: unknown;
  status: unknown[];
  row: unknown[] | undefined;
  /** The failed attempt after which the order waits for the next one; 0 when it does not. */
  backingOff: number;
}

/** What the model expects. */
function expected(model: OrderModel, answers: { sent: SentCommand }[]): Observation {
  const { stage, state, step, approved, cancel_reason, attempts, reason, payment, card, parcel } = model;
  const ended = stage === 'ended';
  return {
    answers: answers.map(({ sent }) => sent.answer),
    result: ended ? state : undefined,
    status: [state, step, approved, cancel_reason, attempts.length, reason],
    row: ended ? [step, approved, cancel_reason, attempts.length, reason] : undefined,
    state: model.recorded,
    city: model.city,
    payments: payment ? [`${payment} 2.00`] : [],
    shipments: attempts.map(({ city, status }, n) => `${n + 1} ${status} ${city}`),
    events: model.events.flatMap((event) => (typeof event === 'string' ? event : [...event].sort())),
    charges: card ? [card] : [],
    parcel,
    held: [stage === 'charge' ? 1 : 0, stage === 'ship' ? 1 : 0, model.cancels.length, stage === 'refund' ? 1 : 0],
    backingOff: stage === 'backoff' ? attempts.length : 0,
  };
}

/** Whether an answer is one of those that the model allows. */
const oneOf = (allowed: string | undefined, answer: string | undefined): boolean =>
  answer !== undefined && (allowed?.split(' or ') ?? []).includes(answer);

/** The events, sorted where the model allows any order. */
function inOrderOf(expected: (string | string[])[], events: string[]): string[] {
  const sorted: string[] = [];
  for (const one of expected) {
    const next = events.slice(sorted.length, sorted.length + (typeof one === 'string' ? 1 : one.length));
    sorted.push(...next.sort());
  }
  return [...sorted, ...events.slice(sorted.length)];
}

function eventName({ type, payload }: OrderView['events'][number]): string {
  const { attempt, command, code, reason } = (payload ?? {}) as Record<string, unknown>;
  if (type === 'package_prepared' || type === 'carrier_dispatched' || type === 'dispatch_failed')
    return `${type} ${attempt}`;
  if (type === 'command_refused') return `${type} ${command} ${code}`;
  if (type === 'order_failed' || type === 'order_canceled') return `${type} ${reason}`;
  return type;
}

/** Each backoff: the failed attempt before it, and its start. A backoff of length zero starts no timer. */
async function backoffs(order: PlacedOrder): Promise<{ after: number; since: number }[]> {
  const began: { after: number; since: number }[] = [];
  let failed = 0;
  for (const event of await eventsOf(order)) {
    if (event.childWorkflowExecutionFailedEventAttributes || event.childWorkflowExecutionTimedOutEventAttributes)
      failed += 1;
    if (event.timerStartedEventAttributes && failed > (began.at(-1)?.after ?? 0))
      began.push({ after: failed, since: timeOf(event) });
  }
  return began;
}

/** The starts of all timers. */
async function timersOf(order: PlacedOrder): Promise<number[]> {
  return (await eventsOf(order)).filter((event) => event.timerStartedEventAttributes).map(timeOf);
}

/** The events of all runs of the order. */
const eventsOf = async ({ runs }: PlacedOrder): Promise<HistoryEvent[]> =>
  (await runs()).flatMap(({ events }) => events);

const timeOf = ({ eventTime }: HistoryEvent): number =>
  Number(eventTime?.seconds) * 1000 + (eventTime?.nanos ?? 0) / 1e6;
const exactly = (moment: number): Span => ({ from: moment, to: moment });

const isNotFound = (error: unknown): boolean =>
  error instanceof WorkflowNotFoundError || (error as { code?: unknown }).code === 5;

async function answerOf(update: Promise<CommandAnswer>): Promise<string> {
  try {
    const { changed, state } = await update;
    return `${changed ? 'accepted' : 'no change'} ${state}`;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 'gone';
    if (!(error instanceof WorkflowUpdateFailedError && error.cause instanceof ApplicationFailure))
      return String(error);
    const { type, details } = error.cause;
    return type === 'INVALID' ? type : `${type} ${(details?.[0] as { state?: string } | undefined)?.state}`;
  }
}
