import { ship } from './contracts-example.js';

const [, , address = '', order_id = ''] = process.argv;
const order = {
  order_id,
  payment_id: `pay-${order_id}`,
  address: { line1: '123 Main', city: 'Chicago' },
  items: [{ sku: 'ABC', qty: 2 }],
};
console.log(JSON.stringify(await ship(address, order)));
