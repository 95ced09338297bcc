/** An order's life from any start to its end: design section 4. */
import { expect, onTestFinished, test } from 'vitest';
import { anOrder, freshId } from './support.ts';
import { gate, openShop, type ShopOptions } from './workflow-fixture.ts';

const shared = openShop();
const { shop, other } = shops();

const HAPPY_EVENTS = [
  'order_received',
  'order_validated',
  'order_approved',
  'payment_charged',
  'package_prepared',
  'carrier_dispatched',
  'order_shipped',
];
