import { randomInt } from 'node:crypto';
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

/**
 * A free port of 127.0.0.1: the wanted one, or one below the range of ephemeral ports, so that no other program is
 * assigned it before it is used.
 */
export function freePort(wanted?: number): Promise<number> {
  const from = randomInt(10_000, 31_000);
  return getPort({ host: HOST, port: [...(wanted === undefined ? [] : [wanted]), ...portNumbers(from, from + 500)] });
}

/**
 * A free port for each server. With `documented`, the documented one where it is free (PORT overrides the API's); one
 * that is taken is replaced, and reported when its server is in `used`.
 */
export async function choosePorts(options: {
  documented: boolean;
  used: (name: PortName) => boolean;
  say: (line: string) => void;
}): Promise<Ports> {
  const { documented, used, say } = options;
  const chosen: Partial<Ports> = {};
  for (const name of Object.keys(PORTS) as PortName[]) {
    const wanted = name === 'api' && process.env.PORT ? Number(process.env.PORT) : PORTS[name];
    const port = await freePort(documented ? wanted : undefined);
    if (documented && port !== wanted && used(name)) say(`port ${wanted} (${name}) is taken, using ${port}`);
    chosen[name] = port;
  }
  return chosen as Ports;
}
