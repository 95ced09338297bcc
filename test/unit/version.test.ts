/** The product has one version, although OpenAPI, the histories and the published packages read it from different package.json files. */
import { readFileSync } from 'node:fs';
import { openApiDocument } from '@trellis/api/http/openapi-from-router';
import { expect, test } from 'vitest';

interface Manifest {
  version: string;
  workspaces: string[];
  dependencies?: Record<string, string>;
}

const manifestOf = (folder: string): Manifest =>
  JSON.parse(readFileSync(new URL(`../../${folder}/package.json`, import.meta.url), 'utf8'));
const { version, workspaces } = manifestOf('.');

test.each(
  workspaces,
)('%s has the version of the root package.json, and depends on other workspaces in that version', (folder) => {
  const manifest = manifestOf(folder);
  expect(manifest.version).toBe(version);
  const ours = Object.entries(manifest.dependencies ?? {}).filter(([name]) => name.startsWith('@trellis/'));
  expect(ours.filter(([, required]) => required !== version)).toEqual([]);
});

test('the OpenAPI document has that version', () => {
  expect(openApiDocument().info).toMatchObject({ version });
});
