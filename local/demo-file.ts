import { readFile } from 'node:fs/promises';
import { AddressInput, CancelInput } from '@trellis/contracts/command-input';
import { ERROR_CODES } from '@trellis/contracts/error';
import { TERMINAL_STATES } from '@trellis/contracts/lifecycle';
import { StartInput } from '@trellis/contracts/order';
import * as v from 'valibot';
import { LineCounter, parseDocument } from 'yaml';

const Moment = {
  after_ms: v.optional(v.pipe(v.number(), v.minValue(0)), 0),
  /** The error that the command must meet; none when absent. */
  refused: v.optional(v.picklist(ERROR_CODES)),
};

const Command = v.variant('send', [
  v.strictObject({ ...Moment, send: v.literal('approve') }),
  v.strictObject({ ...Moment, send: v.literal('cancel'), reason: CancelInput.entries.reason }),
  v.strictObject({ ...Moment, send: v.literal('address'), address: AddressInput.entries.address }),
  /** The same order again, or with other items. */
  v.strictObject({ ...Moment, send: v.literal('start'), items: v.optional(StartInput.entries.items) }),
]);
export type Command = v.InferOutput<typeof Command>;

const SampleOrder = v.strictObject({
  ...StartInput.entries,
  via: v.optional(v.picklist(['http', 'trpc']), 'http'),
  follows: v.optional(v.string()),
  commands: v.optional(v.array(Command), []),
  expect: v.strictObject({
    state: v.picklist(TERMINAL_STATES),
    /** Why it failed or was canceled. */
    reason: v.optional(v.string()),
    /** The city on the parcel. */
    ships_to: v.optional(v.string()),
  }),
});
export type SampleOrder = v.InferOutput<typeof SampleOrder>;

/**
 * Reads a file of sample orders, YAML or JSON. Throws an Error of one line that names the file, the line and the field
 * when it can't be read or an order is malformed.
 */
export async function readSampleOrders(path: string): Promise<SampleOrder[]> {
  const lines = new LineCounter();
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new Error(`${path} can't be read: ${error.code}`);
  });
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [broken] = document.errors;
  if (broken) throw new Error(`${path}:${lines.linePos(broken.pos[0]).line}: ${broken.message}`);

  const at = (keys: readonly PropertyKey[], problem: string) => {
    let node: { range?: [number, number, number] } | undefined;
    for (let depth = keys.length; depth >= 0 && !node?.range; depth -= 1)
      node = document.getIn(keys.slice(0, depth), true) as typeof node;
    return new Error(`${path}:${lines.linePos(node?.range?.[0] ?? 0).line}: ${keys.join('.') || 'file'}: ${problem}`);
  };
  const parsed = v.safeParse(v.pipe(v.array(SampleOrder), v.minLength(1)), document.toJS());
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw at(issue.path?.map((item) => item.key as PropertyKey) ?? [], issue.message);
  }
  const ids = parsed.output.map((order) => order.order_id);
  for (const [index, order] of parsed.output.entries()) {
    if (ids.indexOf(order.order_id) < index) throw at([index, 'order_id'], `${order.order_id} stands twice`);
    if (order.follows !== undefined && !ids.slice(0, index).includes(order.follows))
      throw at([index, 'follows'], `no order ${order.follows} stands before this one`);
  }
  return parsed.output;
}
