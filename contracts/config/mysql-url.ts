/** Parses `mysql://` URLs, for Node programs. The edge takes URLs over HTTP only, so its bundle does not include this module. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { ConfigError } from './variables.ts';

/** TLS options of the driver: chain and host name are checked only if these options say so. */
interface Tls {
  rejectUnauthorized?: boolean;
  verifyIdentity?: boolean;
  ca?: string;
  cert?: string;
  key?: string;
}

/** The driver's options. Without `ssl` the connection has no TLS. */
export interface MySqlAddress {
  host: string;
  port: number;
  user: string;
  password: string;
  database: string;
  ssl?: Tls | string;
  /** The size of the pool. */
  connectionLimit?: number;
}

/** Which checks TLS makes: `any` none, `chain` the certificate's chain, `identity` its host name too. `on`: TLS whose checks the other options decide. `off`: no TLS. */
type Mode = 'off' | 'on' | 'any' | 'chain' | 'identity';
const STRENGTH: Mode[] = ['off', 'on', 'any', 'chain', 'identity'];

const SWITCH: Record<string, Mode> = { true: 'on', '1': 'on', false: 'off', '0': 'off' };
/**
 * The modes of each TLS option, by the option's name. Each client spells them its own way, so names and values are read
 * without regard to case, `-` and `_`. A mode that falls back to a connection without TLS is not among them.
 */
const OPTIONS: Record<string, Record<string, Mode>> = {
  ssl: SWITCH,
  usessl: SWITCH,
  requiressl: SWITCH,
  tls: { ...SWITCH, skipverify: 'any' },
  sslmode: {
    disabled: 'off',
    disable: 'off',
    required: 'any',
    require: 'any',
    verifyca: 'chain',
    verifyidentity: 'identity',
    verifyfull: 'identity',
  },
  sslaccept: { strict: 'identity', acceptinvalidcerts: 'any' },
  verifyservercertificate: { true: 'chain', false: 'any' },
};
const FILES: Record<string, 'ca' | 'cert' | 'key'> = {
  sslca: 'ca',
  sslrootcert: 'ca',
  sslcert: 'cert',
  sslkey: 'key',
};

const plain = (word: string): string => word.toLowerCase().replace(/[-_]/g, '');

/**
 * Reads a `mysql://` URL that has passed the schema of its variable. Throws a ConfigError of one line that begins with
 * `name`, the variable that holds the URL, and contains no part of the URL but the names of its options. The URL of a server
 * need not name a database.
 */
export function readMySqlUrl(url: string, name = 'the database’s URL', needsDatabase = true): MySqlAddress {
  const refuse = (problem: string) => new ConfigError(`${name} ${problem}`);
  const notUrl = refuse('is not a URL: encode special characters in its user and password');
  if (!URL.canParse(url)) throw notUrl;
  const { hostname, port, username, password, pathname, searchParams } = new URL(url);
  const [database, user, secret] = [pathname.slice(1), username, password].map(decoded);
  if (database === undefined || user === undefined || secret === undefined) throw notUrl;
  if (!hostname) throw refuse('must name a host');
  if (!database && needsDatabase) throw refuse('must name a database: mysql://user:password@host:port/database');
  const host = hostname.replace(/^\[|\]$/g, '');
  const address = { host, port: Number(port || 3306), user, password: secret, database };
  const { connectionLimit, ssl } = readOptions([...searchParams], isIP(host) !== 0, refuse);
  return { ...address, ...(ssl && { ssl }), ...(connectionLimit && { connectionLimit }) };
}

function readOptions(
  options: [string, string][],
  hostIsAddress: boolean,
  refuse: (problem: string) => ConfigError,
): Pick<MySqlAddress, 'ssl' | 'connectionLimit'> {
  const modes: Mode[] = [];
  const files: Pick<Tls, 'ca' | 'cert' | 'key'> = {};
  let own: Tls | string | undefined;
  let connectionLimit: number | undefined;
  for (const [option, value] of options) {
    const key = plain(option);
    const [values, file] = [OPTIONS[key], FILES[key]];
    const mode = values?.[plain(value)];
    if (mode) modes.push(mode);
    else if (file) files[file] = readFile(value, () => refuse(`option ${option} names a file that cannot be read`));
    else if (key === 'connectionlimit' && /^[1-9]\d{0,3}$/.test(value)) connectionLimit = Number(value);
    else if (key === 'connectionlimit') throw refuse(`option ${option} must be a number of connections`);
    else if (key === 'ssl' && driverOptions(value)) own = driverOptions(value);
    else if (values) throw refuse(`option ${option} must be one of ${Object.keys(values).join(', ')}`);
    else throw refuse(`has an option that is not known: ${option.replace(/[^\w-]/g, '').slice(0, 40)}`);
  }
  const limit = connectionLimit === undefined ? {} : { connectionLimit };
  const off = modes.includes('off');
  const on = own !== undefined || Object.keys(files).length > 0 || modes.some((mode) => mode !== 'off');
  if (off && on) throw refuse('has options that switch TLS both on and off');
  if (!on) return limit;
  if (typeof own === 'string') return { ssl: own, ...limit };
  if (own) return { ssl: { ...own, ...files }, ...limit };

  const [strongest = 'chain'] = modes.sort((one, other) => STRENGTH.indexOf(other) - STRENGTH.indexOf(one));
  if (strongest === 'identity' && hostIsAddress)
    throw refuse('must name its host and not the address, so that it can be compared with the certificate');
  // An option that names a certificate authority implies that the chain is checked.
  const rejectUnauthorized = strongest !== 'any' || files.ca !== undefined;
  const verifyIdentity = strongest === 'identity' || (strongest === 'on' && !hostIsAddress);
  return { ssl: { rejectUnauthorized, verifyIdentity, ...files }, ...limit };
}

/** The driver's own options as JSON, or the name of its profile that knows the certificates of Amazon's databases. */
function driverOptions(value: string): Tls | string | undefined {
  if (value === 'Amazon RDS') return value;
  try {
    const options = JSON.parse(value);
    return typeof options === 'object' && !Array.isArray(options) ? options : undefined;
  } catch {
    return undefined;
  }
}

function readFile(path: string, problem: () => ConfigError): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    throw problem();
  }
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
