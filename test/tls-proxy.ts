/** A TLS front for a server that has none: it demands a certificate of its clients, and hands their bytes on. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { createServer } from 'node:tls';

export const SERVER_NAME = 'temporal.internal';

/** Certificates made with `openssl`, as paths: an authority, a server of this name, a client and, by `certified`, others certified by it, and a stranger who isn't. */
export function makeCertificates(folder: string, serverName = SERVER_NAME) {
  mkdirSync(folder, { recursive: true });
  const path = (file: string) => join(folder, file);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
  const request = ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj'];
  for (const name of ['ca', 'stranger'])
    openssl(...request, `/CN=${name}`, '-x509', '-days', '2', '-keyout', `${name}.key`, '-out', `${name}.pem`);
  writeFileSync(path('names'), `subjectAltName=DNS:${serverName}`);
  const pair = (name: string) => ({ cert: path(`${name}.pem`), key: path(`${name}.key`) });
  const certified = (name: string) => {
    openssl(...request, `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`);
    const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'names', '-days', '2'];
    openssl('x509', '-req', '-in', `${name}.csr`, ...signed, '-out', `${name}.pem`);
    return pair(name);
  };
  const stranger = pair('stranger');
  return { ca: path('ca.pem'), server: certified('server'), client: certified('client'), stranger, certified };
}

/** Starts a front on 127.0.0.1 for the server at `target`, host:port. Resolves with its own host:port. */
export async function tlsProxy(target: string, { ca, server }: ReturnType<typeof makeCertificates>) {
  const [host = '', port = ''] = target.split(':');
  const proxy = createServer(
    {
      ca: readFileSync(ca),
      cert: readFileSync(server.cert),
      key: readFileSync(server.key),
      requestCert: true,
      ALPNProtocols: ['h2', 'http/1.1'],
    },
    (client) => {
      const upstream = connect(Number(port), host);
      client.pipe(upstream).pipe(client);
      for (const side of [client, upstream]) side.on('error', () => [client, upstream].map((each) => each.destroy()));
    },
  );
  await once(proxy.listen(0, '127.0.0.1'), 'listening');
  return { address: `127.0.0.1:${(proxy.address() as AddressInfo).port}`, close: () => void proxy.close() };
}
