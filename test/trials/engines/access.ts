/** What a Temporal server with the allow-list of `temporal-server/access.yaml` refuses, and what its histories and its log say of the callers. */
import { readFile } from 'node:fs/promises';
import { request as overHttp } from 'node:http';
import { request as overTls } from 'node:https';
import { join } from 'node:path';
import { Client, isGrpcServiceError } from '@temporalio/client';
import { ORDER_WORKFLOW, ORDERS_QUEUE, orderWorkflowId, SHIPPING_QUEUE } from '@trellis/contracts/temporal';
import { ROOT } from '@trellis/local/stack/folder';
import { startWorker } from '@trellis/local/stack/node-programs';
import { parse } from 'yaml';
import { API, orderThrough, RELEASE, WORKER } from './secured.ts';
import { ADMINISTRATOR, type Proof, type Secured, withConnection } from './temporal.ts';

const OPERATOR = 'trellis-operator';
/** Its proof is accepted, but it is not in the list. */
const UNLISTED = 'somebody';
const EVERYBODY = [API, WORKER, RELEASE, OPERATOR, UNLISTED];

const namespace = 'default';
const CALL_TIMEOUT_MS = 5_000;
const [UNIMPLEMENTED, PERMISSION_DENIED, UNAVAILABLE] = [12, 7, 14];

type AccessList = Record<string, { allow: { calls: string[] }[] }>;
type Call = (request: object) => Promise<unknown>;

const readList = async (): Promise<AccessList> =>
  parse(await readFile(join(ROOT, 'temporal-server/access.yaml'), 'utf8'));

/** Each call that the SDK knows and that is not listed for an identity, made by it: all must be refused. */
export async function unlistedCalls(secured: Secured): Promise<string> {
  const listed = await readList();
  const counts: string[] = [];
  for (const identity of EVERYBODY) {
    const patterns = (listed[identity]?.allow ?? []).flatMap(({ calls }) =>
      calls.map((call) => new RegExp(`^${call.replaceAll('*', '.*')}$`)),
    );
    await withConnection(secured, secured.proofOf(identity), async ({ workflowService, operatorService }) => {
      const calls = [workflowService, operatorService].flatMap((service) =>
        Object.entries(service)
          .filter(([key, value]) => typeof value === 'function' && key !== 'rpcImpl')
          .map(([key]) => ({ name: `${key[0]?.toUpperCase()}${key.slice(1)}`, call: callOf(service, key) })),
      );
      const unlisted = calls.filter(({ name }) => !patterns.some((pattern) => pattern.test(name)));
      for (const { name, call } of unlisted)
        await mustBeRefused(`${identity}: ${name}`, () => call({ namespace }), [PERMISSION_DENIED]);
      counts.push(`${identity} ${unlisted.length} of ${calls.length}`);
    });
  }
  return `refused: ${counts.join(', ')}`;
}

/** A call with what matters of its request, and the identities that may make it. */
interface Attack {
  call: string;
  request: object;
  by?: string[];
}

/** What a caller may say about itself. */
const CHIEF = 'the-chief-approver@shop.example';

const queue = (name: string) => ({ taskQueue: { name } });
const start = (type: string, workflowId: string, on = ORDERS_QUEUE) => ({
  ...{ workflowId, workflowType: { name: type }, ...queue(on), requestId: workflowId },
});
const approvalOf = (workflowId: string) => ({
  ...{ workflowExecution: { workflowId }, signalName: 'approve', identity: CHIEF },
});
/** Would charge an order that nobody has approved. */
const LONE_ACTIVITY = { activityId: 'a', activityType: { name: 'charge_payment' }, ...queue(ORDERS_QUEUE) };

/** What could be done to an order without the API. */
function attacksOn(orderId: string): Attack[] {
  const workflowId = orderWorkflowId(orderId);
  const workflowExecution = { workflowId };
  const order = start(ORDER_WORKFLOW, workflowId);
  const update = { meta: { updateId: 'a' }, input: { name: 'approve' } };
  const [terminateExisting, terminateIfRunning] = [3, 4];
  return [
    { call: 'signalWorkflowExecution', request: approvalOf(workflowId), by: [API] },
    { call: 'updateWorkflowExecution', request: { workflowExecution, request: update }, by: [API] },
    { call: 'signalWorkflowExecution', request: { workflowExecution, signalName: 'dispatch_failed' } },
    { call: 'startActivityExecution', request: LONE_ACTIVITY },
    { call: 'startWorkflowExecution', request: start('ShippingWorkflow', `ship-${orderId}-99`, SHIPPING_QUEUE) },
    { call: 'startWorkflowExecution', request: start('SettleWorkflow', `settle-${orderId}`), by: [WORKER] },
    { call: 'startWorkflowExecution', request: start('SettleWorkflow', workflowId) },
    { call: 'startWorkflowExecution', request: start(ORDER_WORKFLOW, `${workflowId}-too`), by: [API] },
    { call: 'startWorkflowExecution', request: start(ORDER_WORKFLOW, orderId) },
    { call: 'startWorkflowExecution', request: { ...order, workflowIdConflictPolicy: terminateExisting } },
    { call: 'startWorkflowExecution', request: { ...order, workflowIdReusePolicy: terminateIfRunning } },
    { call: 'signalWithStartWorkflowExecution', request: { ...order, signalName: 'approve' } },
    { call: 'requestCancelWorkflowExecution', request: { workflowExecution } },
    { call: 'terminateWorkflowExecution', request: { workflowExecution }, by: [WORKER] },
    { call: 'resetWorkflowExecution', request: { workflowExecution, workflowTaskFinishEventId: 3, requestId: 'r' } },
    { call: 'deleteWorkflowExecution', request: { workflowExecution: { workflowId: `another-${orderId}` } } },
    { call: 'pollWorkflowTaskQueue', request: queue(ORDERS_QUEUE), by: [WORKER] },
    { call: 'pollActivityTaskQueue', request: queue('another-tq') },
    { call: 'respondActivityTaskCompletedById', request: { workflowId, activityId: '1' } },
    { call: 'getWorkflowExecutionHistory', request: { execution: workflowExecution }, by: [WORKER, OPERATOR] },
    { call: 'queryWorkflow', request: { execution: { workflowId: `ship-${orderId}-1` } }, by: [OPERATOR] },
    { call: 'deleteWorkflowExecution', request: { workflowExecution }, by: [WORKER] },
  ];
}

/** Makes each of these calls as everybody who may not, over gRPC and HTTP. Throws an Error that names the first that is not refused. */
export async function attacks(secured: Secured): Promise<string> {
  const orderId = `${secured.node.service.name}-attacked`;
  const workflowId = orderWorkflowId(orderId);
  const { proofOf, stranger, none } = secured;
  await withConnection(secured, proofOf(API), (connection) =>
    new Client({ connection }).workflow.start(ORDER_WORKFLOW, { workflowId, taskQueue: ORDERS_QUEUE }),
  );
  const attackers = [
    ...EVERYBODY.map((name) => ({ name, proof: proofOf(name), codes: [PERMISSION_DENIED] })),
    // Without an accepted certificate there is no connection.
    { name: 'a stranger', proof: stranger, codes: [PERMISSION_DENIED, UNAVAILABLE] },
    { name: 'nobody', proof: none, codes: [PERMISSION_DENIED, UNAVAILABLE] },
  ];
  let refused = 0;
  for (const { name, proof, codes } of attackers) {
    await withConnection(secured, proof, async ({ workflowService }) => {
      for (const { call, request } of attacksOn(orderId).filter(({ by }) => !by?.includes(name))) {
        const what = `${name}: ${call} ${JSON.stringify(request)}`;
        await mustBeRefused(what, () => callOf(workflowService, call)({ namespace, ...request }), codes);
        refused += 1;
      }
    });
    refused += await httpAttacks(secured, { name, proof }, workflowId);
  }
  // Without certificates the network must keep callers away from there.
  for (const { name, proof } of secured.scheme === 'https' ? attackers : [])
    await withConnection({ node: { address: secured.node.internal } }, proof, async ({ workflowService }) => {
      const call = () => callOf(workflowService, 'listNamespaces')({});
      await mustBeRefused(`${name}: internal-frontend`, call, [UNAVAILABLE]);
      refused += 1;
    });
  await withConnection(secured, proofOf(ADMINISTRATOR), ({ workflowService }) =>
    mustBeRefused(
      `${ADMINISTRATOR}: startActivityExecution`,
      () => callOf(workflowService, 'startActivityExecution')({ namespace, ...LONE_ACTIVITY }),
      [UNIMPLEMENTED],
    ),
  );
  await withConnection(secured, proofOf(API), ({ workflowService }) =>
    callOf(workflowService, 'signalWorkflowExecution')({ namespace, ...approvalOf(workflowId) }),
  );
  const signal = (await principals(secured, orderId)).find(({ type }) => type === 'workflowExecutionSignaled');
  if (signal?.principal !== API)
    throw new Error(`the principal of an approval through the API is ${signal?.principal}`);
  return [
    `${refused} calls refused`,
    'an activity outside of a workflow is refused to the administrator too',
    `an approval as "${CHIEF}" has the principal ${signal.principal}`,
  ].join('; ');
}

/** The same over Temporal's HTTP API. Returns how many calls were refused. */
async function httpAttacks(
  secured: Secured,
  { name, proof }: { name: string; proof: Proof },
  workflowId: string,
): Promise<number> {
  const inNamespace = `/api/v1/namespaces/${namespace}`;
  const order = `${inNamespace}/workflows/${workflowId}`;
  const list: { path: string; body?: object; by?: string[] }[] = [
    { path: `${order}/signal/approve`, body: { identity: CHIEF }, by: [API] },
    { path: `${order}/update/approve`, body: { request: { meta: { updateId: 'a' } } }, by: [API] },
    { path: `${order}/terminate`, body: {}, by: [WORKER] },
    { path: `${order}/cancel`, body: {} },
    { path: `${order}/signal-with-start/approve`, body: start(ORDER_WORKFLOW, workflowId) },
    { path: `${inNamespace}/workflows/settle-1`, body: start('SettleWorkflow', 'settle-1'), by: [WORKER] },
    { path: `${inNamespace}/activities/a`, body: LONE_ACTIVITY },
    { path: `${order}/activities/1/complete`, body: {} },
    { path: `${order}/history`, by: [WORKER, OPERATOR] },
  ];
  const forbidden = list.filter(({ by }) => !by?.includes(name));
  for (const { path, body } of forbidden) {
    const status = await statusOf(secured, proof, path, body);
    if (status !== 403 && status !== 'no connection') throw new Error(`${name}: ${path} is answered ${status}`);
  }
  return forbidden.length;
}

function statusOf(
  { scheme, node }: Secured,
  { request }: Proof,
  path: string,
  body?: object,
): Promise<number | string> {
  const [host, port] = node.http.split(':');
  const options = { ...request, host, port, path, method: body ? 'POST' : 'GET', timeout: CALL_TIMEOUT_MS };
  return new Promise((resolve) => {
    const sent = (scheme === 'https' ? overTls : overHttp)(options, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.on('error', () => resolve('no connection')).end(body && JSON.stringify(body));
  });
}

/** A worker whose identity is not listed ends at its start, with a line that names the variable of its proof. Returns the line. */
export async function unlistedWorker(secured: Secured, folder: string, database: string): Promise<string> {
  const { node, scheme, proofOf } = secured;
  const env = { ...proofOf(UNLISTED).env, DATABASE_URL: database, TEMPORAL_ADDRESS: node.address };
  const failure = await startWorker({ folder, name: `${node.service.name} unlisted worker`, env }).then(
    () => 'it started',
    (error: Error) => error.message.split('\n').at(-1) ?? '',
  );
  const variable = scheme === 'https' ? 'TEMPORAL_TLS_CLIENT_CERT_PATH' : 'TEMPORAL_API_KEY';
  if (!failure.startsWith(`${variable} (${node.address}, namespace ${namespace}): `)) throw new Error(failure);
  return failure;
}

/** Who stands in the histories of the orders that `shipThrough` has shipped. */
export async function principalsOfShipped(secured: Secured): Promise<string> {
  const lines: string[] = [];
  for (const api of ['gRPC', 'HTTP'] as const) {
    const events = await principals(secured, orderThrough(api, secured));
    if (events[0]?.principal !== API) throw new Error(`the start through the ${api} API is ${events[0]?.principal}’s`);
    const byPrincipal = Map.groupBy(events, ({ principal }) => principal);
    lines.push(
      ...[...byPrincipal].map(([who, of]) => `${api}: ${who}: ${[...new Set(of.map(({ type }) => type))].join(', ')}`),
    );
  }
  return lines.join('\n');
}

/** The events of an order's history, each with the identity that made the call that wrote it. */
async function principals(secured: Secured, orderId: string): Promise<{ type: string; principal: string }[]> {
  return withConnection(secured, secured.proofOf(OPERATOR), async (connection) => {
    const { events } = await new Client({ connection }).workflow.getHandle(orderWorkflowId(orderId)).fetchHistory();
    return (events ?? []).map(({ principal, ...event }) => ({
      type:
        Object.keys(event)
          .find((key) => key.endsWith('EventAttributes'))
          ?.replace('EventAttributes', '') ?? '',
      principal: principal?.name ?? 'the server itself',
    }));
  });
}

/** Throws an Error if one of the listed identities was refused a call so far. */
export async function refusedNothing(folder: string, { node }: Secured): Promise<void> {
  const refused = (await logged(folder, node.service.name, 'is refused this call')).filter(({ identity }) => identity);
  if (refused.length > 0)
    throw new Error(refused.map(({ identity, call }) => `${identity} may not ${call}`).join('\n'));
}

/** How many of the calls that are listed for the product's identities were made, as the servers' logs tell, and which were not. */
export async function callsMade(folder: string, servers: string[]): Promise<string> {
  const lines = await Promise.all(servers.map((server) => logged(folder, server, 'makes this call')));
  const made = new Set(lines.flat().map(({ identity, call }) => `${identity} ${call}`));
  const listed = await readList();
  return [API, WORKER, RELEASE]
    .map((identity) => {
      const calls = [...new Set(listed[identity]?.allow.flatMap((rule) => rule.calls))];
      const missing = calls.filter((call) => !made.has(`${identity} ${call}`));
      const rest = missing.length === 0 ? '' : `; not ${missing.join(', ')}`;
      return `${identity}: ${calls.length - missing.length} of ${calls.length}${rest}`;
    })
    .join('\n');
}

/** The lines of a server's log with these words, which its allow-list has written. */
async function logged(folder: string, server: string, words: string): Promise<{ identity: string; call: string }[]> {
  const lines = (await readFile(join(folder, 'logs', `${server}.log`), 'utf8')).split('\n');
  return lines
    .filter((line) => line.includes(words))
    .map((line) => JSON.parse(line))
    .map(({ identity, call }) => ({ identity, call: call.replace(/.*\//, '') }));
}

/** A call of a service by its name; the services of the SDK have one method for each. */
const callOf = (service: object, name: string): Call => {
  const call = (service as Record<string, Call | undefined>)[name];
  if (!call) throw new Error(`the SDK knows no call ${name}`);
  return (request) => call.call(service, request);
};

async function mustBeRefused(what: string, call: () => Promise<unknown>, codes: number[]): Promise<void> {
  const answer = await call().then(
    () => 'served',
    (error: unknown) => (isGrpcServiceError(error) ? error.code : error),
  );
  if (!codes.includes(answer as number)) throw new Error(`${what} is answered ${answer}`);
}
