/** One order of the model beside its real one: what is done to the one is done to the other, and both are compared. */

import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { WorkflowNotFoundError, WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { CommandAnswer } from '@trellis/contracts/command';
import type { OrderView } from '@trellis/contracts/order';
import { expect } from 'vitest';
import { anOrder, eventually, freshId } from '../fixtures.ts';
import type { Call, PlacedOrder, Testbed } from '../workflow-fixture.ts';
import { holdCalls } from './held-calls.ts';
import { type Asked, OrderModel, type Plan, POLICY, type Span, Undecidable } from './order-model.ts';

/** What a caller sends, and what the model makes of it. */
export interface Message {
  asked: Asked;
  args: unknown[];
  /** Sent as these bytes. */
  raw?: string;
}

/** An order and its model agree within this, or they don't. */
const AGREE_WITHIN_MS = 5_000;
const SKIP_WITHIN_MS = 5_000;
const GIVES_UP_WITHIN_MS = 2_000;
/** Two moments that are closer might be one. */
const CLOSE_MS = 100;
/** No single act takes longer by the server's clock; one that does says nothing. */
const ALLOWANCE_MS = 10_000;
/** People don't act this shortly before a stop's time is over, because nobody could tell who was first. */
const MARGIN_MS = 15_000;

export type ModelRun = Awaited<ReturnType<typeof beginRun>>;

export async function beginRun(bed: Testbed, plan: Plan, withStart?: Message) {
  const { realTimeClient: client, env } = bed;
  const calls = holdCalls();
  const answers: { asked: Asked; real: { answer?: string } }[] = [];
  const clock = () => env.currentTimeMs();
  const given = anOrder({ address: addressOf(plan.city) });
  const order = plan.card === 'good' ? given : { ...given, payment_id: `declined-${given.order_id}` };

  const before = await clock();
  const { asked, args } = withStart ?? {};
  const placed: PlacedOrder = await bed.place(order, {
    client,
    faults: calls.faults,
    args: [{ ...order, policy: POLICY, ...(plan.sound ? {} : { items: null }) }],
    workflowRunTimeout: plan.timeoutMs,
    ...(asked && { signal: NAMES[asked.command], signalArgs: args ?? [] }),
  });
  const model = new OrderModel(plan, { from: before, to: await clock() });

  /** Does something to both and waits until they agree; `longer` than usual it may take. */
  async function act(real: () => unknown, modeled: () => void, longer = 0): Promise<void> {
    const from = await clock();
    await real();
    model.now = { from, to: from + ALLOWANCE_MS + longer };
    modeled();
    while (calls.lateCount() < model.late.length) calls.leave(model.late[calls.lateCount()]?.call ?? 'charge', true);
    await agree();
    const to = await clock();
    if (to > model.now.to) throw new Undecidable();
    model.now.to = to;
    if (model.entered === model.now) model.entered = await restingSince();
  }

  /** Moves the server's clock, which stands still while an activity is under way. */
  async function skip(ms: number): Promise<void> {
    await env.connection.withAbortSignal(AbortSignal.timeout(SKIP_WITHIN_MS), () => env.sleep(ms));
  }

  /** Looks until everything is as the model says; what is dear to ask for, only once the rest is. */
  async function agree(): Promise<void> {
    const wanted = expected(model, answers);
    for (const end = Date.now() + AGREE_WITHIN_MS; ; await sleep(3)) {
      const late = Date.now() > end;
      let actual: Partial<Sight> = near();
      for (const look of [recorded, told])
        if (
          late ||
          Object.entries(actual).every(([key, value]) => isDeepStrictEqual(value, wanted[key as keyof Sight]))
        )
          actual = { ...actual, ...(await look()) };
      if (isDeepStrictEqual(actual, wanted)) return;
      if (late) return expect(actual).toEqual(wanted);
    }
  }

  /** Since when the order is where it is, exactly if Temporal knows. */
  async function restingSince(): Promise<Span> {
    const { now, stop } = model;
    if (stop === 'review') return exactly((await timersOf(placed))[0] ?? now.to);
    if (stop === 'pause') return exactly((await pauses(placed)).at(-1)?.since ?? now.to);
    return now;
  }

  /** What can be seen without asking anybody. */
  const near = () => ({
    answers: answers.map(({ asked, real }) => (oneOf(asked.answer, real.answer) ? asked.answer : real.answer)),
    held: CALLS.map((call) => calls.count(call)),
  });

  /** What SQL and the companies' books have. */
  async function recorded() {
    const [view, books] = await Promise.all([placed.view().catch(() => undefined), bed.books(placed.id)]);
    return {
      state: view?.state,
      city: (view?.address as { city?: string } | null | undefined)?.city,
      payments: view?.payments.map(({ status, amount }) => `${status} ${amount}`),
      shipments: view?.shipments.map(({ attempt, status, payload }) => `${attempt} ${status} ${cityOf(payload)}`),
      events: view && inOrderOf(model.trail, view.events.map(eventName)),
      charges: books.charges,
      parcel: books.parcel?.status === 'taken' ? cityOf({ address: books.parcel.addressJson }) : books.parcel?.status,
    };
  }

  /** What Temporal answers. */
  async function told() {
    const over = model.stop === 'over';
    const [status, waits, row, result] = await Promise.all([
      placed.status(),
      model.stop === 'pause' ? pauses(placed) : [],
      over ? placed.row() : undefined,
      over ? Promise.race([placed.end(), sleep(AGREE_WITHIN_MS, 'no end', { ref: false })]) : undefined,
    ]);
    return {
      result,
      status: [status.state, status.step, status.approved, status.cancel_reason, status.child_attempts, status.reason],
      row: row && [row.step, row.approved, row.cancelReason, row.childAttempts, row.reason],
      pausing: waits.at(-1)?.after ?? 0,
    };
  }

  /** Lets time pass, but not beyond what the order waits for. */
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

    /** Whether what a command asks for can still be done: the clock may have gone on. */
    async ready(possible: (model: OrderModel) => boolean): Promise<boolean> {
      const { timer } = model;
      if (timer && (await clock()) > timer.from - MARGIN_MS) {
        if (model.stop === 'charge' || model.stop === 'ship') throw new Undecidable();
        await self.waitOut();
      }
      return possible(model);
    },

    send: ({ asked, args, raw }: Message) =>
      act(
        () => {
          const real: { answer?: string } = {};
          if (asked.by === 'temporal') return placed.handle.cancel();
          if (asked.by === 'signal')
            return (
              raw === undefined ? placed.signal(asked.command, ...args) : placed.signalRaw(asked.command, raw)
            ).catch((error: unknown) => {
              if (!(isNotFound(error) && model.stop === 'over')) throw error;
            });
          answers.push({ asked, real });
          void answerOf(placed.update(asked.command, args, asked.id)).then((answer) => {
            real.answer = answer;
          });
          return undefined;
        },
        () => model.ask(asked),
      ),

    hear: (call: Call) =>
      act(
        () => calls.hear(call),
        () => void model.hear(call),
      ),

    async answer(call: Call): Promise<void> {
      while (call === 'refund' && !plan.outlived && model.late.length > 0) await self.wake();
      let first = '';
      await act(
        async () => {
          const undecided = model.cancels.map(({ reason }) => reason);
          await calls.answer(call);
          // Which of several cancels was first is Temporal's to say.
          if (call === 'close' && undecided.length > 0) first = await firstOf(undecided);
        },
        () => model.answers(call, first),
      );
    },

    fail: (call: Call, retried: 'at once' | 'by Temporal') =>
      act(
        () => calls.fail(call, retried),
        () => model.stumbles(call),
        retried === 'at once' ? 0 : 1_000,
      ),

    /** The call under way is given up after two seconds, and made anew. */
    hang: (call: 'charge' | 'dispatch') =>
      act(
        () => calls.leave(call, false),
        () => model.hangs(call),
        3_000,
      ),

    wake: () =>
      act(
        async () => {
          await calls.wake();
          await bed.transactionsSettled();
        },
        () => model.wakes(),
      ),

    /** Lets a share of the time pass that the order would wait here. */
    async linger(share: number): Promise<void> {
      const left = (model.timer?.from ?? 0) - MARGIN_MS - (await clock());
      if (left > 0) await pass(Math.floor(left * share));
    },

    /** Lets the stop's time pass, the company being away meanwhile. */
    async waitOut(): Promise<void> {
      const { timer, stop } = model;
      const call = stop === 'charge' ? 'charge' : stop === 'ship' ? 'dispatch' : undefined;
      if (!call) {
        const left = Math.max(0, (timer?.to ?? 0) - (await clock())) + 5;
        return act(
          () => skip(left),
          () => model.timeIsUp(),
          left,
        );
      }
      calls.goAway(call);
      // Temporal gives up as soon as the next retry would come too late.
      const end = timer ?? model.now;
      let from = await clock();
      while (from + calls.retryIn() < end.to + CLOSE_MS) {
        if (from + calls.retryIn() > end.from - CLOSE_MS) throw new Undecidable();
        const failures = calls.failures();
        await skip(calls.retryIn() + 1);
        await eventually(async () => calls.failures() > failures, AGREE_WITHIN_MS, 2);
        from = await clock();
      }
      const gaveUp = async () =>
        calls.count('refund') > 0 || (await pauses(placed)).at(-1)?.after === model.tries.length;
      // Or it means to try once more, and no longer at a moment that anybody could foretell.
      await eventually(gaveUp, GIVES_UP_WITHIN_MS, 10).catch(() => {
        throw new Undecidable();
      });
      await act(
        () => calls.comeBack(call),
        () => model.timeIsUp(),
      );
    },

    /** Another caller's order wants to pay with the same card. */
    rival: () =>
      act(
        async () => {
          const rival = await bed.placeApproved(anOrder({ payment_id: order.payment_id }), { client });
          const free = model.cardUsedBy === 'nobody';
          expect(await rival.end()).toBe(free && plan.card === 'good' ? 'shipped' : 'failed');
          const { reason } = await rival.row();
          expect(reason).toBe(free ? (plan.card === 'good' ? null : 'PAYMENT_DECLINED') : 'PAYMENT_CONFLICT');
        },
        () => {
          if (model.cardUsedBy === 'nobody') model.cardUsedBy = 'rival';
        },
        2_000,
      ),

    /** Another caller starts the same order under another workflow id, or under its own once more. */
    startAgain: (how: 'elsewhere' | 'use existing' | 'refuse') =>
      act(
        async () => {
          const again = { ...order, items: [{ sku: 'XYZ', qty: 9 }] };
          if (how === 'elsewhere') {
            const other = await bed.place(again, { workflowId: freshId('other'), client });
            expect(await other.end()).toBe(model.recorded);
            return;
          }
          const existing = how === 'use existing' && model.stop !== 'over';
          const start = client.workflow.start('OrderWorkflow', {
            workflowId: placed.handle.workflowId,
            taskQueue: 'orders-tq',
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

    /** Signals that nobody has asked for. */
    stranger: (name: string, args: unknown[]) =>
      act(
        () => placed.handle.signal(name, ...args),
        () => {},
      ),

    /** No worker lives while the signals arrive, and perhaps the time runs out; then another one comes. */
    restart: (replace: (meanwhile: () => Promise<void>) => Promise<void>, messages: Message[], late: boolean) => {
      const { stop } = model;
      return act(
        () =>
          replace(async () => {
            for (const { asked, args } of messages) await placed.signal(asked.command, ...args);
            const left = (model.timer?.to ?? 0) - (await clock()) + 5;
            if (late) await skip(Math.max(1, left));
          }),
        () => {
          model.askTogether(messages.map(({ asked }) => asked));
          model.react();
          if (late && model.stop === stop) model.timeIsUp();
        },
        late ? (model.timer?.to ?? 0) - model.now.from + 3_000 : 3_000,
      );
    },

    /** Whatever else happens to the order, it comes to an end. */
    async finish(): Promise<void> {
      for (let n = 0; model.stop !== 'over'; n += 1) {
        if (n > 60) throw new Error(`the order does not end: it is at ${model.stop}`);
        if (model.stop === 'undecided' || model.stop === 'closing' || model.cancels.length > 0)
          await self.answer('close');
        else if (model.stop === 'charge') await self.answer('charge');
        else if (model.stop === 'ship') await self.answer('dispatch');
        else if (model.stop === 'refund') await self.answer('refund');
        else await self.waitOut();
      }
      while (model.late.length > 0) await self.wake();
      await calls.release();
      await bed.transactionsSettled();
      await agree();
    },

    /** Lets go of everything, after a failure. */
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
    () => model.begin(asked),
  );
  return self;
}

const CALLS = ['charge', 'dispatch', 'close', 'refund'] as const;
const NAMES = { approve: 'approve', cancel: 'cancel_order', address: 'update_address' } as const;

export const addressOf = (city: string) => ({ line1: '1 Main', city });
const cityOf = (payload: unknown) => (payload as { address?: { city?: string } } | null)?.address?.city;

interface Sight {
  answers: (string | undefined)[];
  /** How many calls of each kind wait for a company. */
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
  /** After which failed try the order waits for the next one. */
  pausing: number;
}

/** What the model says should be seen. */
function expected(model: OrderModel, answers: { asked: Asked }[]): Sight {
  const { stop, state, step, approved, cancelReason, tries, reason, payment, card, parcel } = model;
  const over = stop === 'over';
  return {
    answers: answers.map(({ asked }) => asked.answer),
    result: over ? state : undefined,
    status: [state, step, approved, cancelReason, tries.length, reason],
    row: over ? [step, approved, cancelReason, tries.length, reason] : undefined,
    state: model.recorded,
    city: model.city,
    payments: payment ? [`${payment} 2.00`] : [],
    shipments: tries.map(({ city, status }, n) => `${n + 1} ${status} ${city}`),
    events: model.trail.flatMap((event) => (typeof event === 'string' ? event : [...event].sort())),
    charges: card ? [card] : [],
    parcel,
    held: [stop === 'charge' ? 1 : 0, stop === 'ship' ? 1 : 0, model.cancels.length, stop === 'refund' ? 1 : 0],
    pausing: stop === 'pause' ? tries.length : 0,
  };
}

/** Whether an answer is among those that the model allows. */
const oneOf = (allowed: string | undefined, answer: string | undefined): boolean =>
  answer !== undefined && (allowed?.split(' or ') ?? []).includes(answer);

/** Sorts the events that may come in any order. */
function inOrderOf(trail: (string | string[])[], events: string[]): string[] {
  const sorted: string[] = [];
  for (const expected of trail) {
    const next = events.slice(sorted.length, sorted.length + (typeof expected === 'string' ? 1 : expected.length));
    sorted.push(...next.sort());
  }
  return [...sorted, ...events.slice(sorted.length)];
}

function eventName({ type, payload }: OrderView['events'][number]): string {
  const { attempt, address, command, code, reason } = (payload ?? {}) as Record<string, unknown>;
  const city = (address as { city?: string } | undefined)?.city;
  if (type === 'package_prepared') return `${type} ${attempt} ${city}`;
  if (type === 'carrier_dispatched' || type === 'dispatch_failed') return `${type} ${attempt}`;
  if (type === 'address_updated') return `${type} ${city}`;
  if (type === 'command_refused') return `${type} ${command} ${code}`;
  if (type === 'order_failed' || type === 'order_canceled') return `${type} ${reason}`;
  return type;
}

/** After which failed try the order waited for the next one, and since when. One that needn't wait leaves no trace. */
async function pauses({ handle }: PlacedOrder): Promise<{ after: number; since: number }[]> {
  const { events } = await handle.fetchHistory();
  const began: { after: number; since: number }[] = [];
  let failed = 0;
  for (const event of events ?? []) {
    if (event.childWorkflowExecutionFailedEventAttributes || event.childWorkflowExecutionTimedOutEventAttributes)
      failed += 1;
    if (event.timerStartedEventAttributes && failed > (began.at(-1)?.after ?? 0))
      began.push({ after: failed, since: timeOf(event) });
  }
  return began;
}

/** When the order began to wait, each time. */
async function timersOf({ handle }: PlacedOrder): Promise<number[]> {
  const { events } = await handle.fetchHistory();
  return (events ?? []).filter((event) => event.timerStartedEventAttributes).map(timeOf);
}

const timeOf = ({ eventTime }: HistoryEvent): number =>
  Number(eventTime?.seconds) * 1000 + (eventTime?.nanos ?? 0) / 1e6;
type HistoryEvent = NonNullable<Awaited<ReturnType<PlacedOrder['handle']['fetchHistory']>>['events']>[number];
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
