/** Sends an API requests generated from its own OpenAPI document and checks the answers against it, with Schemathesis from PyPI. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pythonPackage } from '@trellis/local/stack/programs';

const PACKAGE = 'schemathesis==4.32.5';
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
  'negative_data_rejection',
];

interface FuzzOptions {
  requests: number;
  seed: number;
  folder: string;
  /** Sent with each request. */
  token?: string | undefined;
}

export interface Fuzzed {
  requests: number;
  /** Schemathesis's report of a wrong answer and of how to repeat its request; empty when every answer was right. */
  failure: string;
}

/**
 * Sends the API at `url` at least `requests` requests, valid and invalid ones, alone and in sequences. No answer may be a
 * 5xx or one that the document doesn't describe, and no invalid request may be accepted. The report goes to `folder`.
 */
export async function fuzz(url: string, options: FuzzOptions): Promise<Fuzzed> {
  const { requests, seed, folder, token } = options;
  const library = await pythonPackage(PACKAGE);
  const fuzzed: Fuzzed = { requests: 0, failure: '' };
  for (let round = 0; fuzzed.requests < requests && fuzzed.failure === ''; round += 1) {
    const report = join(folder, `schemathesis-${new URL(url).port}.json`);
    const { printed, failed } = await runOnce(library, folder, [
      ...['run', `${url}/openapi.json`, '--phases', 'coverage,fuzzing,stateful', '--checks', CHECKS.join()],
      ...['--max-examples', `${Math.ceil((requests - fuzzed.requests) / 10)}`, '--seed', `${seed + round}`],
      ...(token ? ['--header', `Authorization: Bearer ${token}`] : []),
      ...['--report', 'json', '--report-json-path', report, '--no-color', '--warnings', 'off'],
    ]);
    const { test_cases } = JSON.parse(await readFile(report, 'utf8').catch(() => '{}'));
    fuzzed.requests += test_cases?.generated ?? 0;
    if (failed || !test_cases?.generated) fuzzed.failure = printed;
  }
  return fuzzed;
}

function runOnce(library: string, folder: string, args: string[]): Promise<{ printed: string; failed: boolean }> {
  const env = { ...process.env, PYTHONPATH: library };
  const limits = { maxBuffer: 2 ** 26 };
  return new Promise((resolve) =>
    execFile('python3', ['-m', 'schemathesis.cli', ...args], { cwd: folder, env, ...limits }, (error, stdout, stderr) =>
      resolve({ printed: stdout + stderr, failed: error !== null }),
    ),
  );
}
