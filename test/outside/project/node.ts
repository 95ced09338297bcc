import { ship } from './client-example.js';

declare const process: { argv: string[] };

const [, , api = '', order_id = ''] = process.argv;
console.log(JSON.stringify(await ship(api, order_id)));
