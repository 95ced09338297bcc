/** What the design says of one order, as a machine that moves only when somebody acts on it: a person, a company, the clock. It knows no Temporal and no SQL. */
import type { Command } from '@trellis/contracts/command';
import { type FailureReason, isTerminal, movesForward, type State, type Step } from '@trellis/contracts/lifecycle';
import type { PaymentStatus } from '@trellis/contracts/payment';
import { POLICIES, type Policy } from '@trellis/contracts/policy';

/** A moment that lies between two, in milliseconds of the server's clock. */
export interface Span {
  from: number;
  to: number;
}

/** The clock skips its hours, and its seconds are long enough for a slow machine. */
export const POLICY = 'production';

/** What is decided when the order is placed. */
export interface Plan {
  /** The caller's timeout of the run. */
  timeoutMs: number;
  card: 'good' | 'declined';
  city: string;
  /** Whether the order is one at all. */
  sound: boolean;
  /** Whether calls that the order has left may wake only after its end. */
  outlived: boolean;
}

/** Where an order rests until somebody acts. `undecided`: cancels wait for the carrier; `closing`: shipped, but such a cancel has yet to be answered. */
export type Stop = 'review' | 'charge' | 'ship' | 'pause' | 'undecided' | 'refund' | 'closing' | 'over';

/** The companies' calls that the test holds. `close` is the question whether a cancel still comes in time. */
export type Call = 'charge' | 'dispatch' | 'close' | 'refund';

export interface Asked {
  command: Command;
  by: 'update' | 'signal' | 'temporal';
  id: string;
  /** Where an address change goes; null if its address is none. */
  city: string | null;
  /** A cancel's reason as it is to be kept. */
  reason: string;
  /** Undefined while undecided. */
  answer?: string;
  /** Later commands with its id. */
  echoes: Asked[];
}

/** A call that nobody waits for any more. */
export interface Late {
  call: Call;
  attempt: number;
  city: string;
  heard: string | undefined;
}

interface Ending {
  state: 'canceled' | 'expired' | 'failed';
  reason?: FailureReason;
}

export const UNREACHABLE = 'Unreachable';

/** The run took so long that the clock, and not the order, decides; nothing can be said of it. */
export class Undecidable extends Error {
  override readonly name = 'Undecidable';
}

export class OrderModel {
  readonly plan: Plan;
  readonly policy: Policy;
  /** When what is happening happens. */
  now: Span;
  readonly deadline: Span;

  stop: Stop = 'review';
  entered: Span;
  state: State = 'received';
  step: Step = 'validate_order';
  approved = false;
  cancelReason: string | null = null;
  reason: FailureReason | null = null;
  city: string;

  /** SQL: the order's state, its tries, its payment, its events; a list among the events is one in any order. */
  recorded: State = 'received';
  tries: { city: string; status: 'prepared' | 'dispatched' | 'failed' }[] = [];
  payment: PaymentStatus | undefined;
  trail: (string | string[])[] = ['order_received'];

  /** The companies' books. */
  card: 'charged' | 'declined' | 'refunded' | 'closed' | undefined;
  parcel: string | undefined;
  cardUsedBy: 'nobody' | 'us' | 'rival' = 'nobody';

  /** What the company has said to the call under way, if it has heard it. */
  readonly heard = new Map<Call, string>();
  readonly late: Late[] = [];
  canceledByTemporal = false;
  cancels: Asked[] = [];
  addresses: Asked[] = [];

  private readonly known = new Map<string, Asked>();
  private readonly acceptedUpdates = new Set<string>();
  private readonly notedRefusals = new Set<string>();
  private phase: 'open' | 'settling' | 'taken' = 'open';
  private holdsMoney = false;
  private mayBeTaken = false;
  private movedHouse = false;
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

  /** The first steps, with what came along with the start. */
  begin(asked?: Asked): void {
    if (asked) this.ask(asked, false);
    if (!this.plan.sound) {
      this.settle({ state: 'failed', reason: 'INVALID_ORDER' });
      return;
    }
    // An address that came with the start is judged beside the order.
    const beside = this.trail.splice(1).flat();
    this.trail.push(beside.length > 0 ? [...beside, 'order_validated'] : 'order_validated');
    if (asked?.command === 'address' && asked.answer !== 'INVALID')
      asked.answer = `${asked.answer} or ${asked.answer?.replace('received', 'awaiting_approval')}`;
    this.recorded = 'awaiting_approval';
    this.state = this.approved ? 'approved' : 'awaiting_approval';
    this.step = 'awaiting_approval';
    this.enter('review');
    this.react();
  }

  /** A command arrives; its answer stands in it, at once or later. Without `react` the order doesn't get to act on it yet. */
  ask(asked: Asked, react = true): void {
    const { command, by, id } = asked;
    const known = by === 'temporal' ? undefined : this.known.get(id);
    if (this.stop === 'over') {
      if (by === 'update' && this.acceptedUpdates.has(id)) asked.answer = known?.answer ?? '';
      else asked.answer = 'gone';
      return;
    }
    if (known) {
      if (by === 'update') this.acceptedUpdates.add(id);
      if (known.answer === undefined) known.echoes.push(asked);
      else this.answer(asked, known.answer);
      return;
    }
    if (by === 'update') {
      if (this.tooLate(command)) {
        asked.answer = `TOO_LATE ${this.state}`;
        return;
      }
      this.acceptedUpdates.add(id);
    }
    if (by === 'temporal') this.canceledByTemporal = true;
    this.known.set(id, asked);
    if (this.tooLate(command)) this.refuse(asked);
    else this[command](asked);
    if (react) this.react();
  }

  /** Commands that arrive at once. An address has to be written first, so its answer knows of the others. */
  askTogether(all: Asked[]): void {
    for (const asked of all) this.ask(asked, false);
    for (const asked of all)
      if (asked.command === 'address' && asked.answer && this.known.get(asked.id) === asked)
        asked.answer = asked.answer.replace(/^(accepted|no change) .*/, `$1 ${this.state}`);
  }

  /** The company does what the call under way asks of it. */
  hear(call: Call): string {
    const said = this.heard.get(call) ?? this.company(call, this.tries.at(-1)?.city ?? '');
    this.heard.set(call, said);
    return said;
  }

  /** The company's answer arrives, and the order goes on. Of several cancels the one with this reason was first. */
  answers(call: Call, firstReason = ''): void {
    const said = this.hear(call);
    this.heard.delete(call);
    if (call === 'charge') {
      this.bookCharge(said);
      this.charged(said === 'charged');
    } else if (call === 'dispatch') {
      this.bookDispatch(this.tries.length, said);
      if (said === 'taken') this.ship();
      else this.tryFailed(said === 'refused' ? 'CARRIER_REFUSED' : 'DEADLINE', said === 'closed');
    } else if (call === 'close') this.decideCancels(said, firstReason);
    else this.refunded(said === 'refunded');
  }

  /** The call is lost, whether heard or not, and tried again. */
  stumbles(call: Call): void {
    this.heard.delete(call);
    // What a late call has told us meanwhile needs no asking.
    if (call === 'charge' && this.payment !== 'pending') this.charged(this.payment === 'charged');
  }

  /** Nobody waits for the call under way any more; another one takes its place. */
  hangs(call: 'charge' | 'dispatch'): void {
    this.late.push({
      call,
      attempt: this.tries.length,
      city: this.tries.at(-1)?.city ?? '',
      heard: this.heard.get(call),
    });
    this.heard.delete(call);
  }

  /** A call that was given up wakes. */
  wakes(): void {
    const late = this.late.shift();
    if (!late) return;
    const said = late.heard ?? this.company(late.call, late.city);
    if (late.call === 'charge') this.bookCharge(said);
    else this.bookDispatch(late.attempt, said);
  }

  /** The stop's own time is over. */
  timeIsUp(): void {
    if (this.stop === 'review') this.settle({ state: 'expired' });
    else if (this.stop === 'charge') {
      this.heard.delete('charge');
      this.settle({ state: 'failed', reason: 'DEADLINE' });
    } else if (this.stop === 'ship') {
      this.heard.delete('dispatch');
      this.tryFailed('DEADLINE', false);
    } else if (this.stop === 'pause') this.tryToShip();
  }

  /** When the order leaves its stop by itself. */
  get timer(): Span | undefined {
    const { review_ms, shipping_backoff_ms, shipping_attempt_ms, min_shipping_attempts } = this.policy;
    if (this.stop === 'review') return earlier(plus(this.entered, review_ms), this.deadline);
    if (this.stop === 'charge') return this.deadline;
    if (this.stop === 'pause') return plus(this.entered, shipping_backoff_ms);
    if (this.stop !== 'ship') return undefined;
    const owed = Math.max(0, min_shipping_attempts - this.tries.length) * (shipping_backoff_ms + shipping_attempt_ms);
    return later(plus(this.entered, shipping_attempt_ms), plus(this.deadline, -owed));
  }

  /** What the order makes of what people asked. */
  react(): void {
    const canceled = this.cancelReason !== null;
    if (['review', 'charge', 'ship', 'pause'].includes(this.stop) && canceled) this.settle({ state: 'canceled' });
    else if (this.stop === 'review' && this.approved) this.charge();
    else if (this.stop === 'pause' && this.movedHouse) this.tryToShip();
  }

  private enter(stop: Stop): void {
    this.stop = stop;
    this.entered = this.now;
  }

  private tooLate(command: Command): boolean {
    if (command === 'cancel' && this.cancelReason !== null) return false;
    const canceled = this.cancelReason !== null;
    if (command === 'approve' && this.approved && !canceled && this.phase !== 'settling') return false;
    return canceled || this.phase !== 'open';
  }

  private approve(asked: Asked): void {
    const changed = !this.approved;
    this.approved = true;
    if (this.state === 'awaiting_approval') this.state = 'approved';
    this.accept(asked, changed);
  }

  private cancel(asked: Asked): void {
    if (this.cancelReason !== null) this.accept(asked, false);
    else if (this.tries.length > 0) this.cancels.push(asked);
    else {
      this.cancelReason = asked.reason;
      this.accept(asked, true);
    }
  }

  private address(asked: Asked): void {
    this.addresses.push(asked);
    this.decideAddresses();
  }

  private decideAddresses(): void {
    const canceled = this.cancelReason !== null;
    if (this.phase === 'open' && !canceled && (this.mayBeTaken || this.cancels.length > 0)) return;
    for (const asked of this.addresses.splice(0)) {
      if (this.phase !== 'open' || canceled) this.refuse(asked);
      else if (asked.city === null) this.refuse(asked, 'INVALID');
      else {
        const changed = asked.city !== this.city;
        this.city = asked.city;
        this.movedHouse = true;
        this.trail.push(`address_updated ${asked.city}`);
        this.accept(asked, changed);
      }
    }
  }

  private decideCancels(said: string, firstReason: string): void {
    const asked = this.cancels.splice(0);
    if (said === 'closed') this.cancelReason = firstReason;
    for (const one of asked) {
      if (said === 'taken') this.refuse(one);
      else this.accept(one, one.reason === firstReason);
    }
    this.decideAddresses();
    if (this.stop === 'closing') this.enter('over');
    else if (this.stop !== 'undecided') this.react();
    else if (this.ending) this.settle(this.ending);
    else this.tryToShip();
  }

  private accept(asked: Asked, changed: boolean): void {
    this.answer(asked, `${changed ? 'accepted' : 'no change'} ${this.state}`);
  }

  private refuse(asked: Asked, code = 'TOO_LATE'): void {
    this.answer(asked, code === 'INVALID' ? code : `${code} ${this.state}`);
  }

  /** Nobody waits for a signal's answer, so its refusal is noted, once for its id. */
  private answer(asked: Asked, answer: string): void {
    asked.answer = answer;
    const refused = answer.startsWith('TOO_LATE') || answer === 'INVALID';
    if (refused && asked.by === 'signal' && !this.notedRefusals.has(asked.id)) {
      this.notedRefusals.add(asked.id);
      this.trail.push(`command_refused ${asked.command} ${answer.split(' ')[0]}`);
    }
    for (const echo of asked.echoes.splice(0)) this.answer(echo, answer);
  }

  private charge(): void {
    this.step = 'charge_payment';
    if (this.cardUsedBy === 'rival') {
      this.settle({ state: 'failed', reason: 'PAYMENT_CONFLICT' });
      return;
    }
    this.cardUsedBy = 'us';
    this.holdsMoney = true;
    this.payment = 'pending';
    this.record('approved', 'order_approved');
    this.enter('charge');
  }

  private charged(taken: boolean): void {
    if (!taken) {
      this.holdsMoney = false;
      this.settle({ state: 'failed', reason: 'PAYMENT_DECLINED' });
      return;
    }
    this.state = 'shipping';
    this.step = 'shipping_child';
    this.tryToShip();
  }

  private tryToShip(): void {
    if (this.cancels.length > 0) {
      this.enter('undecided');
      return;
    }
    if (this.cancelReason !== null) {
      this.settle({ state: 'canceled' });
      return;
    }
    this.failUnfinished();
    this.tries.push({ city: this.city, status: 'prepared' });
    this.record('shipping', `package_prepared ${this.tries.length} ${this.city}`);
    this.mayBeTaken = true;
    this.movedHouse = false;
    this.enter('ship');
  }

  private tryFailed(reason: FailureReason, keyClosed: boolean): void {
    const { min_shipping_attempts, shipping_backoff_ms, shipping_attempt_ms } = this.policy;
    if (reason === 'CARRIER_REFUSED' || keyClosed) this.mayBeTaken = false;
    const lastMoment = plus(this.deadline, -shipping_backoff_ms - shipping_attempt_ms);
    if (keyClosed || (this.tries.length >= min_shipping_attempts && this.isPast(lastMoment))) {
      this.settle({ state: 'failed', reason });
      return;
    }
    this.enter('pause');
    this.decideAddresses();
    this.react();
  }

  private ship(): void {
    const before = this.trail.length;
    this.phase = 'taken';
    this.decideAddresses();
    // What is too late now is noted beside the order's end.
    const beside = this.trail.splice(before).flat();
    this.record('shipped', beside.length > 0 ? ['order_shipped', ...beside] : 'order_shipped');
    this.state = 'shipped';
    this.step = 'done';
    this.enter(this.cancels.length > 0 ? 'closing' : 'over');
  }

  private settle(ending: Ending): void {
    this.abandon();
    this.ending = ending;
    if (this.cancels.length > 0) {
      this.enter('undecided');
      return;
    }
    if (this.cancelReason !== null) this.ending = { state: 'canceled' };
    this.reason = this.ending.reason ?? null;
    this.phase = 'settling';
    this.decideAddresses();
    if (!this.holdsMoney) {
      this.close();
      return;
    }
    if (this.company('close') === 'taken') {
      this.credit(this.tries.length);
      this.ship();
    } else this.enter('refund');
  }

  /** The call that the order was waiting for goes on without it. */
  private abandon(): void {
    if (this.cancelReason === null || (this.stop !== 'charge' && this.stop !== 'ship')) return;
    if (this.stop === 'charge') this.hangs('charge');
    if (this.stop === 'ship') this.hangs('dispatch');
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
    const why = state === 'canceled' ? this.cancelReason : reason;
    this.record(state, `order_${state}${why ? ` ${why}` : ''}`);
    this.state = state;
    this.enter('over');
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

  private bookCharge(said: string): void {
    if (isTerminal(this.recorded)) return;
    if (said === 'declined' && this.payment === 'pending') this.payment = 'failed';
    if (said !== 'charged') return;
    if (this.payment === 'pending') this.payment = 'charged';
    this.record('payment_charged');
    this.note('payment_charged');
  }

  private bookDispatch(attempt: number, said: string): void {
    if (said === 'taken') {
      this.credit(attempt);
      return;
    }
    if (said !== 'refused') return;
    const shipment = this.tries[attempt - 1];
    if (shipment?.status === 'prepared') shipment.status = 'failed';
    if (!isTerminal(this.recorded)) this.note(`dispatch_failed ${attempt}`);
  }

  /** The first try that is known to have handed the parcel over has shipped it. */
  private credit(attempt: number): void {
    const shipment = this.tries[attempt - 1];
    if (!shipment || this.tries.some(({ status }) => status === 'dispatched')) {
      this.failUnfinished();
      return;
    }
    shipment.status = 'dispatched';
    shipment.city = this.parcel ?? '';
    this.note(`carrier_dispatched ${attempt}`);
  }

  private failUnfinished(): void {
    for (const shipment of this.tries) if (shipment.status === 'prepared') shipment.status = 'failed';
  }

  private record(state: State, event?: string | string[]): void {
    if (movesForward(this.recorded, state)) this.recorded = state;
    if (event !== undefined) this.trail.push(event);
  }

  private note(event: string): void {
    if (!this.trail.flat().includes(event)) this.trail.push(event);
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
