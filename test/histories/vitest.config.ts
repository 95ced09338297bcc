import { defineConfig } from 'vitest/config';
import { withServers } from '../vitest.config.ts';

export default defineConfig({ test: { include: ['histories/record.ts'], ...withServers } });
