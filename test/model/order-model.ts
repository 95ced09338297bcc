/** The design's rules for one order as a state machine, without Temporal and SQL. It changes only through calls: commands, outcomes of the companies' calls, time. */
import type { Command } from '@trellis/contracts/commands';
import type { PaymentStatus } from '@trellis/contracts/payment';
import { POLICIES, type Policy } from '@trellis/contracts/policy';
import {
  type FailureReason,
  isTerminal,
  movesForward,
  type State,
  type Step,
} from '@trellis/contracts/states-and-steps';

/** A moment known only as an interval, in milliseconds of the server's clock. */
export interface Span {
  from: number;
  to: number;
}

/** Its windows are long enough for a slow machine; the clock skips them. */
export const POLICY = 'production';

/** The properties of an order that are fixed at its start. */
export interface Plan {
  /** The run timeout that the caller sets. */
  timeoutMs: number;
  card: 'good' | 'declined';
  city: string;
  /** Whether the start argument is valid. */
  valid: boolean;
  /** Whether abandoned calls may be answered after the order's end. */
  lateCallsAfterEnd: boolean;
}

/** What the order waits for. `undecided`: cancels wait for the carrier; `answering`: shipped, but such a cancel is not answered yet. */
export type Stage = 'review' | 'charge' | 'ship' | 'backoff' | 'undecided' | 'refund' | 'answering' | 'ended';

/** The companies' calls that the test holds. `close` closes the carrier's key for a cancel. */
export type Call = 'charge' | 'dispatch' | 'close' | 'refund';

export interface SentCommand {
  command: Command;
  by: 'update' | 'signal' | 'temporal';
  id: string;
  /** The city of an address change; null if its address is invalid. */
  city: string | null;
  /** A cancel's reason as it is stored. */
  reason: string;
  /** Undefined while the command is undecided. */
  answer?: string;
  /** Later commands with the same id. */
  repetitions: SentCommand[];
}

/** A call that the order has abandoned. */
export interface Late {
  call: Call;
  attempt: number;
  city: string;
  outcome: string | undefined;
}

interface Ending {
  state: 'canceled' | 'expired' | 'failed';
  reason?: FailureReason;
}

export const UNREACHABLE = 'Unreachable';

/** Thrown when the outcome depends on timing that the test can't see: such a run is skipped. */
export class Undecidable extends Error {
  override readonly name = 'Undecidable';
}

export class OrderModel {
  readonly plan: Plan;
  readonly policy: Policy;
  /** The time of the current act. */
  now: Span;
  readonly deadline: Span;

  stage: Stage = 'review';
  entered: Span;
  state: State = 'received';
  step: Step = 'validate_order';
  approved = false;
  cancel_reason: string | null = null;
  reason: FailureReason | null = null;
  city: string;

  /** In SQL: the order's state, shipping attempts, payment and events. A nested list holds events in any order. */
  recorded: State = 'received';
  attempts: { city: string; status: 'prepared' | 'dispatched' | 'failed' }[] = [];
  payment: PaymentStatus | undefined;
  events: (string | string[])[] = ['order_received'];

  /** The companies' books: the charge, the parcel, and which order has the payment id. */
  card: 'charged' | 'declined' | 'refunded' | 'closed' | undefined;
  parcel: string | undefined;
  paymentUsedBy: 'none' | 'this order' | 'other order' = 'none';

  /** The outcomes of calls that the company has carried out and not answered yet. */
  readonly outcomes = new Map<Call, string>();
  readonly late: Late[] = [];
  canceledByTemporal = false;
  cancels: SentCommand[] = [];
  addresses: SentCommand[] = [];

  private readonly known = new Map<string, SentCommand>();
  private readonly acceptedUpdates = new Set<string>();
  private readonly recordedRefusals = new Set<string>();
  private phase: 'open' | 'settling' | 'taken' = 'open';
  private mayHoldMoney = false;
  private mayBeTaken = false;
  private addressChanged = false;
  private ending: Ending | undefined;

  constructor(plan: Plan, started: Span) {
    this.plan = plan;
    this.policy = POLICIES[POLICY];
    this.city = plan.city;
    this.now = started;
    this.entered = started;
    const { budget_ms, review_ms, review_in_budget, refund_reserve_ms } = this.policy;
    const budget = review_in_budget ? budget_ms : budget_ms + review_ms;
    this.deadline = plus(started, Math.min(budget, plan.timeoutMs) - refund_reserve_ms);
  }

  /** The steps up to the review; `sent` is a command that was sent with the start. */
  begin(sent?: SentCommand): void {
    if (sent) this.receive(sent, false);
    if (!this.plan.valid) {
      this.settle({ state: 'failed', reason: 'INVALID_ORDER' });
      return;
    }
    // The address change and the validation are recorded in any order.
    const beside = this.events.splice(1).flat();
    this.events.push(beside.length > 0 ? [...beside, 'order_validated'] : 'order_validated');
    if (sent?.command === 'address' && sent.answer !== 'INVALID')
      sent.answer = `${sent.answer} or ${sent.answer?.replace('received', 'awaiting_approval')}`;
    this.recorded = 'awaiting_approval';
    this.state = this.approved ? 'approved' : 'awaiting_approval';
    this.step = 'awaiting_approval';
    this.enter('review');
    this.react();
  }

  /** A command arrives; its `answer` is set now or later. With `react` false the order does not act on it yet. */
  receive(sent: SentCommand, react = true): void {
    const { command, by, id } = sent;
    const known = by === 'temporal' ? undefined : this.known.get(id);
    if (this.stage === 'ended') {
      if (by === 'update' && this.acceptedUpdates.has(id)) sent.answer = known?.answer ?? '';
      else sent.answer = 'gone';
      return;
    }
    if (known) {
      if (by === 'update') this.acceptedUpdates.add(id);
      if (known.answer === undefined) known.repetitions.push(sent);
      else this.answer(sent, known.answer);
      return;
    }
    if (by === 'update') {
      if (this.tooLate(command)) {
        sent.answer = `TOO_LATE ${this.state}`;
        return;
      }
      this.acceptedUpdates.add(id);
    }
    if (by === 'temporal') this.canceledByTemporal = true;
    this.known.set(id, sent);
    if (this.tooLate(command)) this.refuse(sent);
    else this[command](sent);
    if (react) this.react();
  }

  /** Another run continues the order. It knows the ids of accepted commands, but not of repetitions, and Temporal those of no update. */
  continuesAsNew(): void {
    for (const [id, { command, answer }] of this.known)
      if (!answer?.startsWith('accepted') && !(command === 'address' && answer?.startsWith('no change')))
        this.known.delete(id);
    this.acceptedUpdates.clear();
    this.canceledByTemporal = false;
  }

  /** Commands that arrive in one workflow task. An address is answered after it is written, with the state that the others led to. */
  receiveTogether(all: SentCommand[]): void {
    for (const sent of all) this.receive(sent, false);
    for (const sent of all)
      if (sent.command === 'address' && sent.answer && this.known.get(sent.id) === sent)
        sent.answer = sent.answer.replace(/^(accepted|no change) .*/, `$1 ${this.state}`);
  }

  /** The company carries out the held call; returns the outcome. */
  carryOut(call: Call): string {
    const outcome = this.outcomes.get(call) ?? this.company(call, this.attempts.at(-1)?.city ?? '');
    this.outcomes.set(call, outcome);
    return outcome;
  }

  /** The company's answer arrives and the order continues. `firstReason`: the reason of the first of several cancels. */
  completes(call: Call, firstReason = ''): void {
    const outcome = this.carryOut(call);
    this.outcomes.delete(call);
    if (call === 'charge') {
      this.bookCharge(outcome);
      this.charged(outcome === 'charged');
    } else if (call === 'dispatch') {
      this.bookDispatch(this.attempts.length, outcome);
      if (outcome === 'taken') this.ship();
      else this.attemptFailed(outcome === 'refused' ? 'CARRIER_REFUSED' : 'DEADLINE', outcome === 'closed');
    } else if (call === 'close') this.decideCancels(outcome, firstReason);
    else this.refunded(outcome === 'refunded');
  }

  /** The call fails, carried out or not, and is retried. */
  callFails(call: Call): void {
    this.outcomes.delete(call);
    // A payment that a late call has settled meanwhile is not charged again.
    if (call === 'charge' && this.payment !== 'pending') this.charged(this.payment === 'charged');
  }

  /** The held call times out; a new call replaces it. */
  callTimesOut(call: 'charge' | 'dispatch'): void {
    this.late.push({
      call,
      attempt: this.attempts.length,
      city: this.attempts.at(-1)?.city ?? '',
      outcome: this.outcomes.get(call),
    });
    this.outcomes.delete(call);
  }

  /** The company answers the first late call. */
  lateCallAnswered(): void {
    const late = this.late.shift();
    if (!late) return;
    const outcome = late.outcome ?? this.company(late.call, late.city);
    if (late.call === 'charge') this.bookCharge(outcome);
    else this.bookDispatch(late.attempt, outcome);
  }

  /** The stage's time limit passes. */
  timesOut(): void {
    if (this.stage === 'review') this.settle({ state: 'expired' });
    else if (this.stage === 'charge') {
      this.outcomes.delete('charge');
      this.settle({ state: 'failed', reason: 'DEADLINE' });
    } else if (this.stage === 'ship') {
      this.outcomes.delete('dispatch');
      this.attemptFailed('DEADLINE', false);
    } else if (this.stage === 'backoff') this.attemptShipping();
  }

  /** When the stage's time limit passes. */
  get timer(): Span | undefined {
    const { review_ms, shipping_backoff_ms, shipping_attempt_ms, min_shipping_attempts } = this.policy;
    if (this.stage === 'review') return earlier(plus(this.entered, review_ms), this.deadline);
    if (this.stage === 'charge') return this.deadline;
    if (this.stage === 'backoff') return plus(this.entered, shipping_backoff_ms);
    if (this.stage !== 'ship') return undefined;
    const owed =
      Math.max(0, min_shipping_attempts - this.attempts.length) * (shipping_backoff_ms + shipping_attempt_ms);
    return later(plus(this.entered, shipping_attempt_ms), plus(this.deadline, -owed));
  }

  /** Continues the order after accepted commands. */
  react(): void {
    const canceled = this.cancel_reason !== null;
    if (['review', 'charge', 'ship', 'backoff'].includes(this.stage) && canceled) this.settle({ state: 'canceled' });
    else if (this.stage === 'review' && this.approved) this.charge();
    else if (this.stage === 'backoff' && this.addressChanged) this.attemptShipping();
  }

  private enter(stage: Stage): void {
    this.stage = stage;
    this.entered = this.now;
  }

  private tooLate(command: Command): boolean {
    if (command === 'cancel' && this.cancel_reason !== null) return false;
    const canceled = this.cancel_reason !== null;
    if (command === 'approve' && this.approved && !canceled && this.phase !== 'settling') return false;
    return canceled || this.phase !== 'open';
  }

  private approve(sent: SentCommand): void {
    const changed = !this.approved;
    this.approved = true;
    if (this.state === 'awaiting_approval') this.state = 'approved';
    this.accept(sent, changed);
  }

  private cancel(sent: SentCommand): void {
    if (this.cancel_reason !== null) this.accept(sent, false);
    else if (this.attempts.length > 0) this.cancels.push(sent);
    else {
      this.cancel_reason = sent.reason;
      this.accept(sent, true);
    }
  }

  private address(sent: SentCommand): void {
    this.addresses.push(sent);
    this.decideAddresses();
  }

  private decideAddresses(): void {
    const canceled = this.cancel_reason !== null;
    if (this.phase === 'open' && !canceled && (this.mayBeTaken || this.cancels.length > 0)) return;
    for (const sent of this.addresses.splice(0)) {
      if (this.phase !== 'open' || canceled) this.refuse(sent);
      else if (sent.city === null) this.refuse(sent, 'INVALID');
      else {
        const changed = sent.city !== this.city;
        this.city = sent.city;
        this.addressChanged = true;
        this.events.push('address_updated');
        this.accept(sent, changed);
      }
    }
  }

  private decideCancels(outcome: string, firstReason: string): void {
    const sent = this.cancels.splice(0);
    if (outcome === 'closed') this.cancel_reason = firstReason;
    for (const one of sent) {
      if (outcome === 'taken') this.refuse(one);
      else this.accept(one, one.reason === firstReason);
    }
    this.decideAddresses();
    if (this.stage === 'answering') this.enter('ended');
    else if (this.stage !== 'undecided') this.react();
    else if (this.ending) this.settle(this.ending);
    else this.attemptShipping();
  }

  private accept(sent: SentCommand, changed: boolean): void {
    this.answer(sent, `${changed ? 'accepted' : 'no change'} ${this.state}`);
  }

  private refuse(sent: SentCommand, code = 'TOO_LATE'): void {
    this.answer(sent, code === 'INVALID' ? code : `${code} ${this.state}`);
  }

  /** A signal has no answer, so its refusal is recorded as an event, once per id. */
  private answer(sent: SentCommand, answer: string): void {
    sent.answer = answer;
    const refused = answer.startsWith('TOO_LATE') || answer === 'INVALID';
    if (refused && sent.by === 'signal' && !this.recordedRefusals.has(sent.id)) {
      this.recordedRefusals.add(sent.id);
      this.events.push(`command_refused ${sent.command} ${answer.split(' ')[0]}`);
    }
    for (const repetition of sent.repetitions.splice(0)) this.answer(repetition, answer);
  }

  private charge(): void {
    this.step = 'charge_payment';
    if (this.paymentUsedBy === 'other order') {
      this.settle({ state: 'failed', reason: 'PAYMENT_CONFLICT' });
      return;
    }
    this.paymentUsedBy = 'this order';
    this.mayHoldMoney = true;
    this.payment = 'pending';
    this.record('approved', 'order_approved');
    this.enter('charge');
  }

  private charged(taken: boolean): void {
    if (!taken) {
      this.mayHoldMoney = false;
      this.settle({ state: 'failed', reason: 'PAYMENT_DECLINED' });
      return;
    }
    this.state = 'shipping';
    this.step = 'shipping_child';
    this.attemptShipping();
  }

  private attemptShipping(): void {
    if (this.cancels.length > 0) {
      this.enter('undecided');
      return;
    }
    if (this.cancel_reason !== null) {
      this.settle({ state: 'canceled' });
      return;
    }
    this.failUnfinished();
    this.attempts.push({ city: this.city, status: 'prepared' });
    this.record('shipping', `package_prepared ${this.attempts.length}`);
    this.mayBeTaken = true;
    this.addressChanged = false;
    this.enter('ship');
  }

  private attemptFailed(reason: FailureReason, keyClosed: boolean): void {
    const { min_shipping_attempts, shipping_backoff_ms, shipping_attempt_ms } = this.policy;
    if (reason === 'CARRIER_REFUSED' || keyClosed) this.mayBeTaken = false;
    const lastMoment = plus(this.deadline, -shipping_backoff_ms - shipping_attempt_ms);
    if (keyClosed || (this.attempts.length >= min_shipping_attempts && this.isPast(lastMoment))) {
      this.settle({ state: 'failed', reason });
      return;
    }
    this.enter('backoff');
    this.decideAddresses();
    this.react();
  }

  private ship(): void {
    const before = this.events.length;
    this.phase = 'taken';
    this.decideAddresses();
    // The refusals and the order's end are recorded in any order.
    const beside = this.events.splice(before).flat();
    this.record('shipped', beside.length > 0 ? ['order_shipped', ...beside] : 'order_shipped');
    this.state = 'shipped';
    this.step = 'done';
    this.enter(this.cancels.length > 0 ? 'answering' : 'ended');
  }

  private settle(ending: Ending): void {
    this.abandon();
    this.ending = ending;
    if (this.cancels.length > 0) {
      this.enter('undecided');
      return;
    }
    if (this.cancel_reason !== null) this.ending = { state: 'canceled' };
    this.reason = this.ending.reason ?? null;
    this.phase = 'settling';
    this.decideAddresses();
    if (!this.mayHoldMoney) {
      this.close();
      return;
    }
    if (this.company('close') === 'taken') {
      this.credit(this.attempts.length);
      this.ship();
    } else this.enter('refund');
  }

  /** Abandons the call that the order waits for. */
  private abandon(): void {
    if (this.cancel_reason === null || (this.stage !== 'charge' && this.stage !== 'ship')) return;
    if (this.stage === 'charge') this.callTimesOut('charge');
    if (this.stage === 'ship') this.callTimesOut('dispatch');
  }

  private refunded(wasCharged: boolean): void {
    this.payment = wasCharged ? 'refunded' : 'failed';
    if (wasCharged) {
      this.note('payment_charged');
      this.note('payment_refunded');
    }
    this.close();
  }

  private close(): void {
    const { state, reason } = this.ending ?? { state: 'failed' };
    this.failUnfinished();
    if (this.approved) this.note('order_approved');
    const why = state === 'canceled' ? this.cancel_reason : reason;
    this.record(state, `order_${state}${why ? ` ${why}` : ''}`);
    this.state = state;
    this.enter('ended');
  }

  private company(call: Call, city = ''): string {
    if (call === 'charge') {
      this.card ??= this.plan.card === 'good' ? 'charged' : 'declined';
      return this.card;
    }
    if (call === 'refund') {
      if (this.card === 'charged') this.card = 'refunded';
      this.card ??= 'closed';
      return this.card;
    }
    if (call === 'dispatch' && this.parcel === undefined) {
      if (city === UNREACHABLE) return 'refused';
      this.parcel = city;
    }
    this.parcel ??= 'closed';
    return this.parcel === 'closed' ? 'closed' : 'taken';
  }

  private bookCharge(outcome: string): void {
    if (isTerminal(this.recorded)) return;
    if (outcome === 'declined' && this.payment === 'pending') this.payment = 'failed';
    if (outcome !== 'charged') return;
    if (this.payment === 'pending') this.payment = 'charged';
    this.record('payment_charged');
    this.note('payment_charged');
  }

  private bookDispatch(attempt: number, outcome: string): void {
    if (outcome === 'taken') {
      this.credit(attempt);
      return;
    }
    if (outcome !== 'refused') return;
    const shipment = this.attempts[attempt - 1];
    if (shipment?.status === 'prepared') shipment.status = 'failed';
    if (!isTerminal(this.recorded)) this.note(`dispatch_failed ${attempt}`);
  }

  /** Records the first attempt that is known to have handed over the parcel as dispatched. */
  private credit(attempt: number): void {
    const shipment = this.attempts[attempt - 1];
    if (!shipment || this.attempts.some(({ status }) => status === 'dispatched')) {
      this.failUnfinished();
      return;
    }
    shipment.status = 'dispatched';
    shipment.city = this.parcel ?? '';
    this.note(`carrier_dispatched ${attempt}`);
  }

  private failUnfinished(): void {
    for (const shipment of this.attempts) if (shipment.status === 'prepared') shipment.status = 'failed';
  }

  private record(state: State, event?: string | string[]): void {
    if (movesForward(this.recorded, state)) this.recorded = state;
    if (event !== undefined) this.events.push(event);
  }

  private note(event: string): void {
    if (!this.events.flat().includes(event)) this.events.push(event);
  }

  private isPast(moment: Span): boolean {
    if (this.now.from > moment.to) return true;
    if (this.now.to < moment.from) return false;
    throw new Undecidable();
  }
}

const plus = ({ from, to }: Span, ms: number): Span => ({ from: from + ms, to: to + ms });
const earlier = (one: Span, other: Span): Span => ({
  from: Math.min(one.from, other.from),
  to: Math.min(one.to, other.to),
});
const later = (one: Span, other: Span): Span => ({
  from: Math.max(one.from, other.from),
  to: Math.max(one.to, other.to),
});
