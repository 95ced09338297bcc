/** `npm run token`: signs a token for a caller of the API, with a key of the installation. Prints the token on stdout, the rest on stderr. */
import { publicKeyOf, signToken } from '@trellis/api/callers/own-keys';
import { ID_PATTERN, SHOP_PATTERN } from '@trellis/contracts/id';
import { ID_RULE } from '@trellis/contracts/order';
import { EVERY_SHOP, SCOPE_NAMES } from '@trellis/contracts/scopes';
import { InvalidArgumentError } from 'commander';
import { Option, ReportedError, script } from './options.ts';
import { AUDIENCE, KEY_FILE, keyIn } from './stack/callers.ts';

const cli = script('npm run token', 'Sign a token for a caller of the API. The first use makes the key.')
  .argument('<name>', 'for whom: a person or a program', text(1, 200))
  .addOption(new Option('--scope <scopes...>', 'what it may do').choices(SCOPE_NAMES).makeOptionMandatory())
  .option(
    '--shop <id>',
    `the shop whose orders it may see, or ${EVERY_SHOP} for every shop; none in an installation without shops`,
    shop,
  )
  .option('--order <id>', 'the only order that it is for', order)
  .option('--expires <time>', 'how long it is valid, such as 10m, 12h or 30d', expires, '12h')
  .option('--audience <name>', "the API's AUTH_AUDIENCE", AUDIENCE)
  .addOption(new Option('--key <file>', 'the private key, a JWK').default(KEY_FILE, '.local/token-key.json'))
  .parse();

const [sub] = cli.processedArgs;
const { scope: scopes, key: file, ...claims } = cli.opts();
const { key, made } = await keyIn(file).catch((error: Error) => {
  throw new ReportedError(error.message);
});
if (made) process.stderr.write(`made a new key, ${file}: whoever has it can sign tokens\n`);
process.stderr.write(`the API accepts its tokens with AUTH_PUBLIC_KEYS=${publicKeyOf(key)}\n`);
process.stdout.write(`${await signToken(key, { sub, scopes, ...claims })}\n`);

function text(least: number, most: number) {
  return (value: string): string => {
    if (value.length >= least && value.length <= most) return value;
    throw new InvalidArgumentError(`It must have ${least} to ${most} characters.`);
  };
}

function shop(value: string): string {
  if (value === EVERY_SHOP || SHOP_PATTERN.test(value)) return value;
  throw new InvalidArgumentError('It must be 1 to 32 of A-Z a-z 0-9 . _ - or *.');
}

function order(value: string): string {
  if (ID_PATTERN.test(value)) return value;
  throw new InvalidArgumentError(`It ${ID_RULE}.`);
}

function expires(value: string): string {
  if (/^[1-9]\d{0,5} ?[smhdwy]$/.test(value)) return value;
  throw new InvalidArgumentError('It must be a number and s, m, h, d, w or y.');
}
