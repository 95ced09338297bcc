/** What is secret travels without TLS within this machine and private networks only: the configuration refuses other http URLs. */
import { ConfigError, PROGRAMS, readConfig } from '@trellis/contracts/config/variables';
import { describe, expect, test } from 'vitest';

const NEAR = [
  ...[
    'localhost',
    '127.0.0.1:7243',
    '127.8.9.10',
    '[::1]:7243',
    '10.1.2.3',
    '172.16.0.1',
    '172.31.255.1',
    '192.168.1.2',
  ],
  ...['[fd12:3456::1]', 'temporal', 'temporal-frontend:7243', 'db.internal', 'db.svc.cluster.local', '2130706433'],
];
const PUBLIC = [
  ...['db.example.com', '1.2.3.4', '172.15.0.1', '172.32.0.1', '192.169.0.1', '11.0.0.1', '128.0.0.1', '[2001:db8::1]'],
  ...[
    '[::2]',
    '[::ffff:1.2.3.4]',
    '10.0.0.1.example.com',
    'localhost.example.com',
    'db.internal.example.com',
    '16909060',
  ],
];

const VALID = { DATABASE_URL: 'https://u:s3cret@db.example.com', TEMPORAL_ADDRESS: 'https://t.example', AUTH: 'off' };
const USES = (['api', 'edge', 'worker'] as const).flatMap((program) =>
  (['DATABASE_URL', 'TEMPORAL_ADDRESS'] as const)
    // A worker speaks gRPC.
    .filter((variable) => program !== 'worker' || variable === 'DATABASE_URL')
    .map((variable) => ({ program, variable })),
);

describe.each(USES)('$variable of $program', ({ program, variable }) => {
  const read = (value: string) => {
    const grpc = program === 'worker' ? { TEMPORAL_ADDRESS: 'temporal:7233' } : {};
    return readConfig(PROGRAMS[program], { ...VALID, ...grpc, [variable]: value });
  };
  const user = variable === 'DATABASE_URL' ? 'u:s3cret@' : '';

  test.each(NEAR)('may be http://%s', (host) => {
    expect(read(`http://${user}${host}`)).toHaveProperty(variable);
  });

  test.each(PUBLIC)('must not be http://%s, and the line that says so does not repeat it', (host) => {
    const reading = () => read(`http://${user}${host}`);
    expect(reading).toThrow(ConfigError);
    expect(reading).toThrow(new RegExp(`^${variable} must start with https:// .*networks$`));
    expect(read(`https://${user}${host}`)).toHaveProperty(variable);
  });
});
