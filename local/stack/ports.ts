import { randomInt } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import getPort, { portNumbers } from 'get-port';

export const HOST = '127.0.0.1';

/** The documented ports. */
const PORTS = {
  api: 8000,
  grpc: 7233,
  http: 7243,
  ui: 8233,
  metrics: 9233,
  sql: 3306,
  gateway: 3406,
  edge: 8787,
} as const;

type PortName = keyof typeof PORTS;
type Ports = Record<PortName, number>;
const NAMES = Object.keys(PORTS) as PortName[];

/**
 * A free port of 127.0.0.1: the first of `wanted` that is free, or one below the range of ephemeral ports, so that no other
 * program is assigned it before it is used.
 */
export function freePort(...wanted: number[]): Promise<number> {
  const from = randomInt(10_000, 31_000);
  return getPort({ host: HOST, port: [...wanted, ...portNumbers(from, from + 500)] });
}

/** A free port for each server. */
export async function choosePorts(): Promise<Ports> {
  const chosen: Partial<Ports> = {};
  for (const name of NAMES) chosen[name] = await freePort();
  return chosen as Ports;
}

/**
 * A port for each server that a folder keeps: the one it had at the last start, else the documented one (PORT overrides both
 * for the API), else a free one. One that is taken is replaced; that is reported, and the new one remembered, when its
 * server is in `used`. Throws when PORT is no port.
 */
export async function keepPorts(options: {
  folder: string;
  used: (name: PortName) => boolean;
  say: (line: string) => void;
}): Promise<Ports> {
  const { folder, used, say } = options;
  const file = join(folder, 'ports.json');
  const known: Partial<Ports> = await readFile(file, 'utf8').then(JSON.parse, () => ({}));
  const chosen: Partial<Ports> = {};
  const given = process.env.PORT ? portOf(process.env.PORT) : undefined;
  for (const name of NAMES) {
    const wanted = [name === 'api' ? given : undefined, known[name], PORTS[name]].filter((port) => port !== undefined);
    const port = await freePort(...wanted);
    if (port !== wanted[0] && used(name)) say(`port ${wanted[0]} (${name}) is taken, using ${port}`);
    chosen[name] = port;
    if (used(name) && port !== given) known[name] = port;
  }
  await writeFile(file, JSON.stringify(known));
  return chosen as Ports;
}

function portOf(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port > 0 && port < 65_536) return port;
  throw new Error(`PORT must be a port number, not ${text}`);
}
