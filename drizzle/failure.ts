/** Classifies the errors of both database drivers: how each is treated, and which text may be shown to callers or logged. */

/**
 * How a failure is treated. `conflict`, `lost` and `busy` are retried at once; `permanent` fails again until a person changes the
 * schema, a grant, the data or the configuration; `silent` is a server that can be reached but did not answer in time.
 */
export type FailureKind = 'conflict' | 'lost' | 'busy' | 'silent' | 'unreachable' | 'permanent' | 'other';

export interface Failure {
  kind: FailureKind;
  /** May be shown to callers: says nothing of statements, hosts or values. */
  message: string;
  /** The server's or the network's own words without any value, for logs and operators. */
  reason: string;
  errno?: number;
}

/** Errors whose SQLSTATE does not say how they are treated. Statements and transactions are those of the stores, so each is repeatable. */
const BY_ERRNO: [kind: FailureKind, message: string, errnos: number[]][] = [
  // Deadlock; MariaDB's "record has changed since last read"; table altered meanwhile; rolled back by group replication.
  ['conflict', 'the database rolled the transaction back', [1213, 1020, 1412, 3101]],
  ['busy', 'a lock was not granted in time', [1205]],
  // For the server, for the user, for the user within an hour; no thread; no memory.
  ['busy', 'the database has too many connections', [1040, 1203, 1226, 1135, 1041]],
  // Interrupted by a kill or by the server's own time limit (MySQL, MariaDB).
  ['busy', 'the database interrupted the statement', [1317, 3024, 1969]],
  // A primary that became a replica: --read-only, read-only mode, transaction, Galera or group replication without a quorum.
  ['lost', 'the database is read-only', [1290, 1836, 1792, 1047, 3098, 3100]],
  // Shutdown, killed, closed because idle, network errors seen by the server or by the client.
  [
    'lost',
    'the connection to the database was lost',
    [1053, 1077, 1079, 1927, 3169, 4031, 1158, 1159, 1160, 1161, 2006, 2013],
  ],
  // Host blocked or not allowed; password expired; account locked (MySQL, MariaDB); authentication not supported.
  ['permanent', 'the database refuses the connection', [1129, 1130, 1820, 1862, 3118, 4151, 1251, 1524]],
  // Wrong string or number, cut value, column without a default: HY000 or 01000 in one of the servers, 22 in another.
  ['permanent', 'the database refused the statement', [1366, 1265, 1364, 1235, 3819, 4025]],
];

/** SQLSTATE classes of errors that repeating the statement can't cure: data, constraints, authorization, no such database, syntax and access. */
const PERMANENT_CLASSES = new Set(['21', '22', '23', '28', '3D', '42']);
const ACCESS_DENIED = new Set([1044, 1045, 1049, 1698]);

/** Vitess's codes, in the answer's body or in the text of its error. */
const BY_VITESS_CODE: Record<string, [FailureKind, string]> = {
  ABORTED: ['lost', 'the transaction was lost'],
  UNAVAILABLE: ['lost', 'the connection to the database was lost'],
  RESOURCE_EXHAUSTED: ['busy', 'the database has too many connections'],
  UNAUTHENTICATED: ['permanent', 'the database refuses the connection'],
  PERMISSION_DENIED: ['permanent', 'the database refuses the connection'],
};

const LOST_CODES = new Set(['PROTOCOL_CONNECTION_LOST', 'ECONNRESET', 'EPIPE', 'CONNECTION_LOST']);
/** mysql2 reports a connection lost between statements by this message only, without a code. */
const CLOSED = 'connection is in closed state';
/** Certificates, and TLS that one side does not offer. */
const TLS_CODE = /^HANDSHAKE_|^ERR_(TLS|SSL)|CERT|SIGNATURE/;

/** What drivers and Node's network put on their errors. */
interface DriverError extends Error {
  errno?: number;
  code?: string;
  sqlState?: string;
  sqlMessage?: string;
  fatal?: boolean;
  status?: number;
  body?: { code?: string; message?: string };
}

/** The statement, with its values, follows in the text. */
const VITESS_ERRNO = /\(errno (\d+)\) \(sqlstate (\w+)\) \(CallerID/;

/** What failed when `error` comes from a driver, itself or as a cause; undefined when it was thrown by other code. */
export function failureOf(error: unknown): Failure | undefined {
  const found = causesOf(error).find(isDriverError);
  if (!found) return undefined;
  const { body, sqlMessage } = found;
  // Over HTTP only Vitess's text says what the server behind it answered.
  const [, inText, stateInText] = VITESS_ERRNO.exec(body?.message ?? '') ?? [];
  // Negative numbers are the operating system's.
  const errno = body ? Number(inText) || undefined : Number(found.errno) > 0 ? found.errno : undefined;
  const [own = ''] = (body?.message ?? sqlMessage ?? '').split(/ \(errno \d+\)| \(CallerID|:? Sql: /, 1);
  const words =
    /\bdesc = (.*)/s.exec(own)?.[1] ?? (own || causesOf(found).at(-1)?.message || found.code || 'unknown error');
  const [kind, message] = classOf(found, words, errno, stateInText ?? found.sqlState);
  return { kind, message, reason: reasonOf(found, words, errno), ...(errno !== undefined && { errno }) };
}

function classOf(
  { code = '', message, status = 0, body }: DriverError,
  words: string,
  errno = 0,
  sqlState = '',
): [FailureKind, string] {
  const known = BY_ERRNO.find(([, , errnos]) => errnos.includes(errno));
  if (known) return [known[0], known[1]];
  if (ACCESS_DENIED.has(errno) || status === 401 || status === 403)
    return ['permanent', 'the database refuses the connection'];
  if (PERMANENT_CLASSES.has(sqlState.slice(0, 2)) || REFUSED_BY_VITESS.test(words))
    return ['permanent', 'the database refused the statement'];
  const byVitess = BY_VITESS_CODE[UNAVAILABLE_IN_VITESS.test(words) ? 'UNAVAILABLE' : (body?.code ?? '')];
  if (byVitess) return byVitess;
  if (code === 'NO_ANSWER') return ['silent', 'the database does not answer'];
  // 502 or above: the proxy could not reach the database.
  if (status >= 502 || LOST_CODES.has(code) || message.endsWith(CLOSED))
    return ['lost', 'the connection to the database was lost'];
  if (TLS_CODE.test(code)) return ['permanent', 'the database refuses the connection'];
  if (errno || body) return ['other', 'the database refused the statement'];
  return ['unreachable', 'the database does not answer'];
}

/** Vitess's own errors share one errno, 1105, so their text decides: a primary is being replaced; or a syntax error, or a code such as VT12001, "unsupported". */
const UNAVAILABLE_IN_VITESS = /no healthy tablet|NOT_SERVING|code = Unavailable|reparent/;
const REFUSED_BY_VITESS = /^syntax error at position|^VT\d{5}\b/;

/** Errnos whose messages quote only names of columns, tables, users or databases. All others may quote a value or a statement. */
const QUOTE_NAMES = new Set([
  1044, 1045, 1046, 1048, 1049, 1054, 1142, 1143, 1146, 1213, 1205, 1264, 1290, 1364, 1406, 1698,
]);
const LONGEST_REASON = 300;

function reasonOf({ code, body }: DriverError, words: string, errno: number | undefined): string {
  const label = [errno, code?.startsWith('ER_') && code].filter(Boolean).join(' ');
  const fromServer = errno !== undefined || body !== undefined;
  const reason = `${label}${label && ': '}${fromServer ? withoutValues(words, errno) : words}`;
  return reason.replace(/\s+/g, ' ').slice(0, LONGEST_REASON);
}

/** Replaces what an error quotes, unless it is a name. Greedy, as a value may contain quotes. */
function withoutValues(words: string, errno = 0): string {
  if (QUOTE_NAMES.has(errno)) return words;
  const beforeName = /(['"`]).*['"`](?= for (?:column|key) )/s;
  if (beforeName.test(words)) return words.replace(beforeName, '…');
  const [before] = words.split(/['"`]/, 1);
  return before === words ? words : `${before}…`;
}

function isDriverError(error: DriverError): boolean {
  return (
    error.errno !== undefined ||
    error.body !== undefined ||
    error.fatal !== undefined ||
    error.code === 'NO_ANSWER' ||
    LOST_CODES.has(error.code ?? '')
  );
}

function causesOf(error: unknown): DriverError[] {
  return error instanceof Error ? [error, ...causesOf(error.cause)] : [];
}
