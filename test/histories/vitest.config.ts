import { mergeConfig } from 'vitest/config';
import base from '../vitest.config.ts';

export default mergeConfig(
  { ...base, test: { ...base.test, include: [] } },
  { test: { include: ['histories/record.ts'] } },
);
