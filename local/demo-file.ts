import { readFile } from 'node:fs/promises';
import { COMMAND_INPUTS } from '@trellis/contracts/command-inputs';
import { COMMAND_NAMES, type Command } from '@trellis/contracts/commands';
import { ERROR_CODES } from '@trellis/contracts/error';
import { StartInput } from '@trellis/contracts/order';
import { TERMINAL_STATES } from '@trellis/contracts/states-and-steps';
import * as v from 'valibot';
import { LineCounter, parseDocument } from 'yaml';
import type { CommandInput } from './shopper.ts';

/** The fields of every entry under `commands`. */
const Common = {
  /** Milliseconds from the order's acceptance to the sending of the command. */
  after_ms: v.optional(v.pipe(v.number(), v.minValue(0)), 0),
  /** The error code that the API must answer with; absent when it must accept. */
  refused: v.optional(v.picklist(ERROR_CODES)),
};

/** A command's entry: `send` names the command, and the fields of its API input are beside `send`. */
function entryOf(name: Command) {
  const { order_id: _, ...fields } = COMMAND_INPUTS[name].entries;
  return v.pipe(
    v.strictObject({ ...Common, send: v.literal(name), ...fields }),
    v.transform(({ after_ms, refused, send, ...input }) => ({ after_ms, refused, send, input: input as CommandInput })),
  );
}

/** Starts the same order again, perhaps with other items. */
const StartAgain = v.strictObject({
  ...Common,
  send: v.literal('start'),
  items: v.optional(StartInput.entries.items),
});

const DemoCommand = v.variant('send', [...COMMAND_NAMES.map(entryOf), StartAgain]);
export type DemoCommand = v.InferOutput<typeof DemoCommand>;

const SampleOrder = v.strictObject({
  ...StartInput.entries,
  via: v.optional(v.picklist(['http', 'trpc']), 'http'),
  /** The order that must end before this one starts. */
  follows: v.optional(v.string()),
  commands: v.optional(v.array(DemoCommand), []),
  expect: v.strictObject({
    state: v.picklist(TERMINAL_STATES),
    /** The reason of `failed` or `canceled`. */
    reason: v.optional(v.string()),
    /** The city on the parcel. */
    ships_to: v.optional(v.string()),
  }),
});
export type SampleOrder = v.InferOutput<typeof SampleOrder>;

/**
 * Reads a file of sample orders, YAML or JSON. Throws an Error when it can't be read or is malformed: a line for each
 * problem, which names the file, the line and the field.
 */
export async function readSampleOrders(path: string): Promise<SampleOrder[]> {
  const lines = new LineCounter();
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new Error(`${path} can't be read: ${error.code}`);
  });
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const lineAt = (offset: number) => `${path}:${lines.linePos(offset).line}`;
  failIfAny(document.errors.map(({ pos, message }) => `${lineAt(pos[0])}: ${message}`));

  const problemAt = (keys: readonly PropertyKey[], problem: string) => {
    // A missing field has no line: the line is that of its nearest parent that exists.
    let node: { range?: [number, number, number] } | undefined;
    for (let depth = keys.length; depth >= 0 && !node?.range; depth -= 1)
      node = document.getIn(keys.slice(0, depth), true) as typeof node;
    return `${lineAt(node?.range?.[0] ?? 0)}: ${keys.join('.') || 'file'}: ${problem}`;
  };
  const parsed = v.safeParse(v.pipe(v.array(SampleOrder), v.minLength(1)), document.toJS());
  failIfAny((parsed.issues ?? []).map((issue) => problemAt(keysOf(issue), issue.message)));
  const orders = parsed.output as SampleOrder[];
  const ids = orders.map((order) => order.order_id);
  failIfAny(
    orders.flatMap(({ order_id, follows }, index) => [
      ...(ids.indexOf(order_id) < index ? [problemAt([index, 'order_id'], `${order_id} is used twice`)] : []),
      ...(follows !== undefined && !ids.slice(0, index).includes(follows)
        ? [problemAt([index, 'follows'], `no order ${follows} comes before this one`)]
        : []),
    ]),
  );
  return orders;
}

function keysOf(issue: v.BaseIssue<unknown>): PropertyKey[] {
  return issue.path?.map((item) => item.key as PropertyKey) ?? [];
}

function failIfAny(problems: string[]): void {
  if (problems.length > 0) throw new Error(problems.join('\n'));
}
