/** What an order costs is exact, and a price list with a mistake is refused with the line and the field of each. */
import type { Item } from '@trellis/contracts/order';
import type { Money } from '@trellis/contracts/payment';
import { priceOf } from '@trellis/contracts/pricing';
import { readPriceList } from '@trellis/drizzle/price-csv';
import { describe, expect, test } from 'vitest';

const listOf = (prices: Record<string, string>) =>
  new Map<string, Money>(
    Object.entries(prices).map(([sku, price]) => {
      const [amount = '', currency = ''] = price.split(' ');
      return [sku, { amount, currency }];
    }),
  );
const items = (...given: [sku: string, qty: number][]): Item[] => given.map(([sku, qty]) => ({ sku, qty }));

describe('the price of an order', () => {
  test('is one unit of currency for each piece without a list', () => {
    const price = { amount: '10003.00', currency: 'USD' };
    expect(priceOf(items(['A', 3], ['B', 10_000]), undefined)).toEqual({ price, problems: [] });
  });

  test.each<[string, [string, number][], Record<string, string>, string]>([
    ['of cents', [['A', 3]], { A: '0.10 EUR' }, '0.30'],
    [
      'of sums that floats do not have',
      [
        ['A', 10_000],
        ['B', 1],
      ],
      { A: '4503599.51 EUR', B: '0.01 EUR' },
      '45035995100.01',
    ],
    ['of a currency without decimals', [['A', 3]], { A: '1980.00 JPY' }, '5940.00'],
    [
      'of a currency with three',
      [
        ['A', 3],
        ['B', 1],
      ],
      { A: '1.25 KWD', B: '0.05 KWD' },
      '3.80',
    ],
  ])('is exact: %s', (_, given, prices, amount) => {
    const unit_amounts = given.map(([sku]) => prices[sku]?.split(' ')[0]);
    const { price, problems } = priceOf(items(...given), listOf(prices));
    expect(problems).toEqual([]);
    expect(price).toMatchObject({ amount, unit_amounts });
  });

  test('is exact for 100 items of 10,000 pieces each', () => {
    const skus = Array.from({ length: 100 }, (_, n) => `sku-${n}`);
    const list = listOf(Object.fromEntries(skus.map((sku, n) => [sku, `999999.${`${n}`.padStart(2, '0')} EUR`])));
    const { price } = priceOf(items(...skus.map((sku): [string, number] => [sku, 10_000])), list);
    // 10,000 × (100 × 999,999 + 49.50)
    expect(price?.amount).toBe('999999495000.00');
  });

  test('beyond what columns hold is a problem', () => {
    const list = listOf({ A: '99999999.99 EUR' });
    expect(priceOf(items(['A', 10_000]), list).price).toMatchObject({ amount: '999999999900.00' });
    const tooMuch = priceOf(items(['A', 10_000], ['A', 1]), list);
    expect(tooMuch).toEqual({
      price: undefined,
      problems: [{ path: 'items', message: 'must cost at most 999999999999.99' }],
    });
  });

  test('has a problem with each item that is not in the list, or costs another currency than those before it', () => {
    const list = listOf({ A: '1.00 EUR', a: '2.00 EUR', B: '3.00 USD' });
    const { price, problems } = priceOf(items(['C', 1], ['A', 1], ['B', 1], ['a', 1], ['A ', 1]), list);
    expect(price).toBeUndefined();
    expect(problems).toEqual([
      { path: 'items.0.sku', message: 'is not in the price list' },
      { path: 'items.2.sku', message: 'costs USD, other items EUR' },
      { path: 'items.4.sku', message: 'is not in the price list' },
    ]);
  });
});

describe('a price list', () => {
  test('is read with and without times, in any order of its columns, with quotes, a byte order mark and any ends of lines', () => {
    const csv =
      '\uFEFFcurrency,sku,valid_from,amount\r\nEUR, A ,,9.9\n\nJPY,"B, ""large""",2030-01-31,1980\rKWD,字,2030-01-31T08:00:00.5+01:00,007.250\r\n';
    expect(readPriceList(csv)).toEqual({
      mistakes: [],
      list: [
        { line: 2, sku: 'A', amount: '9.90', currency: 'EUR' },
        { line: 4, sku: 'B, "large"', amount: '1980.00', currency: 'JPY', valid_from: '2030-01-31T00:00:00.000Z' },
        { line: 5, sku: '字', amount: '7.25', currency: 'KWD', valid_from: '2030-01-31T07:00:00.500Z' },
      ],
    });
  });

  test.each([
    ['an empty sku', ',1,EUR,', 'sku'],
    ['a sku that is too long', `${'x'.repeat(65)},1,EUR,`, 'sku'],
    ['a sku with white space around it', '" A",1,EUR,', 'sku'],
    ['a sku that is not UTF-8', 'K\uFFFDse,1,EUR,', 'sku'],
    ['no amount', 'A,,EUR,', 'amount'],
    ['a decimal comma', 'A,"1,5",EUR,', 'amount'],
    ['a negative amount', 'A,-1,EUR,', 'amount'],
    ['a price of nothing', 'A,0.00,EUR,', 'amount'],
    ['parts of a cent', 'A,1.005,EUR,', 'amount'],
    ['parts of a yen', 'A,1.50,JPY,', 'amount'],
    ['a fils that cards are not charged', 'A,1.255,KWD,', 'amount'],
    ['a part of an ariary that is no fifth', 'A,1.10,MGA,', 'amount'],
    ['more digits than a column', 'A,1000000000000,EUR,', 'amount'],
    ['an exponent', 'A,1e3,EUR,', 'amount'],
    ['an unknown currency', 'A,1,ABC,', 'currency'],
    ['a currency in small letters', 'A,1,eur,', 'currency'],
    ['a time without its offset', 'A,1,EUR,2030-01-01T08:00:00', 'valid_from'],
    ['a day that does not exist', 'A,1,EUR,2030-02-30', 'valid_from'],
    ['a time that does not exist', 'A,1,EUR,2030-02-28T25:00Z', 'valid_from'],
    ['a time later than SQL’s', 'A,1,EUR,2038-02-01', 'valid_from'],
    ['too few fields', 'A,1', ''],
    ['too many fields', 'A,1,EUR,,', ''],
  ])('with %s is refused, and the mistake named', (_, wrong, path) => {
    const { mistakes } = readPriceList(`sku,amount,currency,valid_from\nOK,1,EUR,\n${wrong}\nOK2,1,EUR,\n`);
    expect(mistakes).toEqual([{ line: 3, path, message: expect.any(String) }]);
  });

  test('is told all of its mistakes at once', () => {
    const { mistakes } = readPriceList('sku,amount,currency\nA,x,xyz\nA,1,EUR\nB,1.5,JPY\nA,2,EUR\n');
    expect(mistakes.map(({ line, path }) => `${line} ${path}`)).toEqual([
      '2 amount',
      '2 currency',
      '4 amount',
      '5 sku',
    ]);
    expect(mistakes.at(-1)?.message).toContain('line 3');
  });

  test.each([
    ['', ['sku', 'amount', 'currency']],
    ['sku;amount;currency\nA;1;EUR\n', ['sku', 'amount', 'currency', 'sku;amount;currency']],
    ['sku,amount,currency,valid_form\nA,1,EUR,2030-01-01\n', ['valid_form']],
    ['sku,amount,amount,currency\nA,1,1,EUR\n', ['amount']],
  ])('with another header than its columns is refused: %j', (csv, paths) => {
    const { list, mistakes } = readPriceList(csv);
    expect(list).toEqual([]);
    expect(mistakes.map(({ line, path }) => [line, path])).toEqual(paths.map((path) => [1, path]));
  });

  test('that is not CSV is refused with the line', () => {
    const { list, mistakes } = readPriceList('sku,amount,currency\nA,1,EUR\nB,1,"EUR\n');
    expect(list).toEqual([]);
    expect(mistakes).toMatchObject([{ path: '', message: expect.stringContaining('Quote') }]);
  });
});
