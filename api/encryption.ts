import {
  createEncryption,
  type Encryption,
  type EncryptionConfig,
  type KeyStore,
} from '@trellis/contracts/payload-codec';
import { fromSql } from './orders/errors.ts';

/** The encryption that the configuration asks for; undefined when it has no keys. Where the database fails, it rejects with UNAVAILABLE. */
export function encryptionOf(config: EncryptionConfig, keys: KeyStore): Encryption | undefined {
  return createEncryption(config, {
    find: (orderId) => fromSql(() => keys.find(orderId)),
    add: (orderId, key) => fromSql(() => keys.add(orderId, key)),
  });
}
