/** A TCP proxy between a program and its MySQL server that can lose or delay the server's answers. */
import { type AddressInfo, createConnection, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface SqlProxy {
  /** The server's URL, through the proxy. */
  readonly url: string;
  /** The same for another account or database of the server. */
  through(url: string): string;
  /** The next `count` commits reach the server, but their connections break before its answers arrive. */
  loseCommits(count: number): void;
  /** Commits whose answers were lost so far. */
  readonly lost: number;
  /** Loses every packet of the connections that are open now, and tells neither side, as NAT and load balancers do; later ones work. */
  forget(): void;
  /** Delays every answer; 0 for no delay. */
  delayAnswers(milliseconds: number): void;
  close(): void;
}

const COM_QUERY = 3;
/** A packet starts with its length and sequence number, followed by the command. */
const HEADER_BYTES = 4;

/** Opens a proxy to the server of a `mysql://` URL on a free port of 127.0.0.1. */
export async function openSqlProxy(serverUrl: string): Promise<SqlProxy> {
  const target = new URL(serverUrl);
  const sockets = new Set<Socket>();
  let toLose = 0;
  let lost = 0;
  let delay = 0;
  /** Connections are numbered; those up to this number are forgotten. */
  let forgotten = 0;
  let opened = 0;

  const server = createServer((client) => {
    const upstream = createConnection({ host: target.hostname, port: Number(target.port || 3306) });
    opened += 1;
    const number = opened;
    let losing = false;
    /** Keeps the answers in order when the delay changes. */
    let answered = Promise.resolve();
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        sockets.delete(socket);
        if (number <= forgotten) return;
        client.destroy();
        upstream.destroy();
      });
    }
    client.on('data', (data) => {
      if (number <= forgotten) return;
      if (toLose > 0 && isCommit(data)) {
        toLose -= 1;
        losing = true;
      }
      upstream.write(data);
    });
    upstream.on('data', (data) => {
      if (number <= forgotten) return;
      if (losing) {
        lost += 1;
        client.destroy();
        return;
      }
      answered = answered
        .then(() => (delay > 0 ? sleep(delay) : undefined))
        .then(() => {
          if (client.writable) client.write(data);
        });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const through = (url: string) => Object.assign(new URL(url), { hostname: '127.0.0.1', port: `${port}` }).href;

  return {
    url: through(serverUrl),
    through,
    get lost() {
      return lost;
    },
    loseCommits(count) {
      toLose = count;
    },
    forget() {
      forgotten = opened;
    },
    delayAnswers(milliseconds) {
      delay = milliseconds;
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** MySQL from 8.0.23 on takes attributes before the statement; mysql2 then sends none of them, in one set. */
const NO_ATTRIBUTES = '\x00\x01';

function isCommit(packet: Buffer): boolean {
  const statement = packet.toString('latin1', HEADER_BYTES + 1).toLowerCase();
  return packet[HEADER_BYTES] === COM_QUERY && ['commit', `${NO_ATTRIBUTES}commit`].includes(statement);
}
