import { type SpecData, Validator } from '@seriousme/openapi-schema-validator';
import { openApiDocument } from '@trellis/api/http/openapi';
import { expect, test } from 'vitest';

test('the OpenAPI document is valid OpenAPI 3.1', async () => {
  const document = JSON.parse(JSON.stringify(openApiDocument())) as SpecData;
  expect(document.openapi).toMatch(/^3\.1\./);
  expect(await new Validator().validate(document)).toEqual({ valid: true });
});
