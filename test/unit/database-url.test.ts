/** The URL of a database: each spelling of TLS means what its client means by it, and no malformed URL is printed. */
import { readMySqlUrl } from '@trellis/contracts/config/mysql-url';
import { ConfigError, PROGRAMS, readConfig } from '@trellis/contracts/config/variables';
import { expect, test } from 'vitest';

const at = (options: string, host = 'db.example') => `mysql://user:s3cret@${host}/orders${options && `?${options}`}`;

function refusal(read: () => unknown): string {
  try {
    return `accepted: ${JSON.stringify(read())}`;
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message;
  }
}

test('the parts of a URL are decoded', () => {
  const url = 'mysql://us%40er:p%2Fa%23s%3As@[::1]:3307/or%20ders?connectionLimit=7';
  const parts = { host: '::1', port: 3307, user: 'us@er', password: 'p/a#s:s', database: 'or ders' };
  expect(readMySqlUrl(url)).toEqual({ ...parts, connectionLimit: 7 });
});

const [NONE, ANY, CHAIN, IDENTITY] = [
  undefined,
  { rejectUnauthorized: false, verifyIdentity: false },
  { rejectUnauthorized: true, verifyIdentity: false },
  { rejectUnauthorized: true, verifyIdentity: true },
];

test.each([
  ['', NONE],
  ['ssl=false', NONE],
  ['sslmode=disable', NONE],
  ['ssl-mode=DISABLED', NONE],
  ['useSSL=false&requireSSL=false', NONE],
  ['tls=false', NONE],
  ['ssl-mode=REQUIRED', ANY],
  ['sslmode=require', ANY],
  ['sslMode=REQUIRED', ANY],
  ['tls=skip-verify', ANY],
  ['sslaccept=accept_invalid_certs', ANY],
  ['useSSL=true&requireSSL=true&verifyServerCertificate=false', ANY],
  ['ssl-mode=VERIFY_CA', CHAIN],
  ['sslmode=verify-ca', CHAIN],
  ['useSSL=true&verifyServerCertificate=true', CHAIN],
  ['ssl=true', IDENTITY],
  ['tls=true', IDENTITY],
  ['useSSL=true', IDENTITY],
  ['ssl_mode=VERIFY_IDENTITY', IDENTITY],
  ['sslmode=verify-full', IDENTITY],
  ['sslaccept=strict', IDENTITY],
  [`ssl=${encodeURIComponent('{"rejectUnauthorized":false}')}`, { rejectUnauthorized: false }],
  ['ssl={}', {}],
  ['ssl=Amazon%20RDS', 'Amazon RDS'],
])('TLS as "%s" says', (options, ssl) => {
  expect(readMySqlUrl(at(options)).ssl).toEqual(ssl);
});

test('without a host name the certificate’s chain is checked', () => {
  expect(readMySqlUrl(at('ssl=true', '10.0.0.5')).ssl).toEqual(CHAIN);
  expect(refusal(() => readMySqlUrl(at('ssl-mode=VERIFY_IDENTITY', '10.0.0.5')))).toContain('must name its host');
});

test.each([
  ['sslmode=prefer', 'option sslmode must be one of disabled, disable, required, require, '],
  ['ssl-mode=PREFERRED', 'option ssl-mode must be one of disabled, '],
  ['tls=preferred', 'option tls must be one of '],
  ['ssl=maybe', 'option ssl must be one of '],
  ['sslkind=x', 'has an option that is not known: sslkind'],
  ['charset=latin1', 'has an option that is not known: charset'],
  ['ssl=false&ssl-mode=REQUIRED', 'has options that switch TLS both on and off'],
  ['ssl-ca=/s3cret/nowhere.pem', 'option ssl-ca names a file that cannot be read'],
  ['connectionLimit=many', 'option connectionLimit must be a number of connections'],
])('"%s" is refused: no connection that was meant to have TLS goes without', (options, problem) => {
  const message = refusal(() => readMySqlUrl(at(options), 'DATABASE_URL'));
  expect(message).toMatch(/^DATABASE_URL .*$/);
  expect(message).toContain(problem);
  expect(message).not.toContain('s3cret');
});

test.each([
  'mysql://u:s3cret#x@db.example/orders',
  'mysql://u:s3cret/x@db.example/orders',
  'mysql://u:s3cret?x@db.example/orders',
  'mysql://u:s3cret@x@db.example:port/orders',
  'mysql://u:s3cret%zz@db.example/orders',
  'mysql://u:s3cret@db example/orders',
  'mysql://u:s3cret@db.example:99999/orders',
  'mysql://u:33#s3cret@db.example/orders',
  'mysql://u:33/s3cret@db.example/orders',
  'mysql://u:33?s3cret@db.example/orders',
  'mysql://u:s3cret@db.example',
  'mysql://u:s3cret@db.example/',
  'mysql://u:s3cret@/orders',
  'https://u:s3cret#x@db.example',
  'https://u:33/s3cret@db.example',
  'https://u:s3cret@db example',
  'postgres://u:s3cret@db.example/orders',
  's3cret',
])('%s is refused in one line that shows nothing of it', (url) => {
  const read = () => {
    const { DATABASE_URL } = readConfig(PROGRAMS.audit, { DATABASE_URL: url });
    return DATABASE_URL.startsWith('mysql:') ? readMySqlUrl(DATABASE_URL, 'DATABASE_URL') : url;
  };
  const message = refusal(read);
  expect(message).toMatch(/^DATABASE_URL (must|is not a URL).*$/);
  expect(message).not.toMatch(/s3cret|33/);
});
