/** Runs the commands of README.md that need a stack, exactly as they are written there. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { need } from '../servers.ts';

const { API_URL } = await need('api');

test('the commands under "Ship an order" ship an order', async () => {
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  const [, commands = ''] = /^```sh\n(\. \.local\/env\n.*?)^```$/ms.exec(readme) ?? [];
  const folder = await mkdtemp(join(tmpdir(), 'trellis-readme-'));
  try {
    await mkdir(join(folder, '.local'));
    await writeFile(join(folder, '.local/env'), `API_URL=${API_URL}\n`);
    const { stdout } = await promisify(execFile)('bash', ['-euc', commands], { cwd: folder });
    const [started, approved, status] = stdout
      .trimEnd()
      .split('\n')
      .map((answer) => JSON.parse(answer));
    expect(started).toEqual({ workflow_id: expect.stringMatching(/^order-o-\d+$/), run_id: expect.any(String) });
    expect(approved).toEqual({ ok: true, state: 'approved', changed: true });
    expect(status).toMatchObject({ state: 'shipped', step: 'done' });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
