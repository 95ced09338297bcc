/** Reads the profiles that `node --cpu-prof` has written for a worker and its threads, and groups them by what the time was spent on. */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { SourceMap } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A function, with the source file that it was built from. */
interface Frame {
  name: string;
  source: string;
}

/** Shares of a thread's time that was not idle. `self`: in the group's own functions and in what they call that has no group; `total`: in all they call. */
export type Shares = Record<string, { self: number; total: number }>;

const of = (pattern: RegExp) => (frame: Frame) => pattern.test(frame.source);

/** Groups that take all they call, whatever it is. */
const WHOLE: [string, (frame: Frame) => boolean][] = [
  [
    'promise hooks and stack traces of the workflow VM',
    ({ name, source }) =>
      /promise_hooks|node_modules\/source-map\//.test(source) ||
      (/vm-shared/.test(source) && /^(init|settled|getActivator|Error\.prepareStackTrace)$/.test(name)),
  ],
];

/** A function without a group belongs to that of its caller. */
const GROUPS: [string, (frame: Frame) => boolean][] = [
  ['garbage collection', ({ name }) => name === '(garbage collector)'],
  [
    'messages between threads',
    ({ name, source }) => name === 'postMessage' || /internal\/(worker|per_context\/messageport)/.test(source),
  ],
  ['entering the workflow VM', of(/^node:vm$/)],
  ['protobuf', of(/node_modules\/(@temporalio\/proto|protobufjs|@protobufjs|long)\//)],
  [
    'data conversion',
    of(/@temporalio\/common\/(lib|src)\/(converter|internal-non-workflow|encoding)|payload-converter/),
  ],
  ['Temporal’s SDK in the workflow VM', of(/@temporalio\/workflow\//)],
  ['workflow code', of(/(workers\/workflows|bare-order\/workflows)/)],
  ['Temporal’s SDK outside', of(/node_modules\/(@temporalio|rxjs)\//)],
  [
    'mysql2',
    of(/node_modules\/(mysql2|sql-escaper|lru\.min|generate-function|iconv-lite|named-placeholders|denque)\//),
  ],
  // Its own source maps name its files `src`.
  ['drizzle-orm', of(/node_modules\/(drizzle-orm|src)\//)],
  ['stores', of(/(^|\/)drizzle\//)],
  ['activities', of(/(workers|contracts|bare-order)\//)],
  ['other packages', of(/node_modules\//)],
  ['Node itself', of(/^node:/)],
];
const NATIVE = 'native code without a caller';

/** Adds to a group's figures. */
export function add(shares: Shares, group: string, self: number, total = self): void {
  const before = shares[group] ?? { self: 0, total: 0 };
  shares[group] = { self: before.self + self, total: before.total + total };
}

interface Profile {
  nodes: { id: number; callFrame: CallFrame; children?: number[] }[];
  startTime: number;
  samples: number[];
  timeDeltas: number[];
}

interface CallFrame {
  functionName: string;
  url: string;
  lineNumber: number;
  columnNumber: number;
}

/**
 * The shares of each thread in a folder of profiles between two times of `process.hrtime`, in microseconds, that of the main thread first;
 * and how much of that time each was busy.
 */
export async function readProfiles(
  folder: string,
  from: number,
  to: number,
): Promise<{ busy: number; shares: Shares }[]> {
  // CPU.<date>.<time>.<pid>.<thread>.<number>.cpuprofile
  const files = (await readdir(folder)).toSorted((a, b) => Number(a.split('.')[4]) - Number(b.split('.')[4]));
  const sources = createSources();
  const threads = [];
  for (const file of files)
    threads.push(await sharesOf(JSON.parse(await readFile(join(folder, file), 'utf8')), sources, from, to));
  return threads;
}

async function sharesOf(
  { nodes, startTime, samples, timeDeltas }: Profile,
  sourceOf: (at: CallFrame) => Promise<string>,
  from: number,
  to: number,
) {
  const groupsOfNode = new Map<number, { self: string; all: Set<string> }>();
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const visit = async (id: number, callers: { self: string; all: Set<string> }): Promise<void> => {
    const { callFrame, children = [] } = byId.get(id) as Profile['nodes'][number];
    const frame = { name: callFrame.functionName, source: await sourceOf(callFrame) };
    const whole = WHOLE.find(([name, test]) => callers.self === name || test(frame))?.[0];
    const self = whole ?? GROUPS.find(([, test]) => test(frame))?.[0] ?? callers.self;
    const all = self === NATIVE ? callers.all : new Set([...callers.all, self]);
    groupsOfNode.set(id, { self, all });
    for (const child of children) await visit(child, { self, all });
  };
  const [root] = nodes;
  if (root) await visit(root.id, { self: NATIVE, all: new Set() });
  const idle = nodes.find(({ callFrame }) => callFrame.functionName === '(idle)')?.id;

  const shares: Shares = {};
  let busy = 0;
  let at = startTime;
  for (const [n, id] of samples.entries()) {
    const took = timeDeltas[n + 1] ?? 0;
    at += timeDeltas[n] ?? 0;
    if (at < from || at > to || id === idle) continue;
    busy += took;
    const { self, all } = groupsOfNode.get(id) ?? { self: NATIVE, all: new Set() };
    add(shares, self, took, 0);
    for (const group of all.size > 0 ? all : [NATIVE]) add(shares, group, 0, took);
  }
  for (const share of Object.values(shares)) {
    share.self /= busy;
    share.total /= busy;
  }
  return { busy: busy / (to - from), shares };
}

/** Finds the source file of a function, by the source map of its file if that has one. */
function createSources() {
  const maps = new Map<string, Promise<SourceMap | undefined>>();
  return async ({ url, lineNumber, columnNumber }: CallFrame): Promise<string> => {
    const file = url.startsWith('file:') ? fileURLToPath(url) : url;
    if (!file.startsWith('/')) return url;
    if (!maps.has(file)) maps.set(file, mapOf(file));
    const entry = (await maps.get(file))?.findEntry(lineNumber, columnNumber);
    return (entry && 'originalSource' in entry && entry.originalSource) || file;
  };
}

async function mapOf(file: string): Promise<SourceMap | undefined> {
  if (/node_modules/.test(file) || !existsSync(file)) return undefined;
  const [, inline] =
    /^\/\/# sourceMappingURL=data:application\/json;(?:charset=utf-8;)?base64,(\S+)/m.exec(
      await readFile(file, 'utf8'),
    ) ?? [];
  if (inline) return new SourceMap(JSON.parse(Buffer.from(inline, 'base64').toString()));
  return existsSync(`${file}.map`) ? new SourceMap(JSON.parse(await readFile(`${file}.map`, 'utf8'))) : undefined;
}
