/** The API's signature of an approval, which whoever only reaches Temporal can't make: a JWS that the worker checks before it charges. */
import { createLocalJWKSet, importJWK, type JWK, jwtVerify, SignJWT } from 'jose';
import { type Actor, actorIn } from './actor.ts';

/** What is signed besides the actor. */
interface Approved {
  order_id: string;
  /** The command's. */
  id: string;
}

export type SignApproval = (approved: Approved, actor: Actor) => Promise<string>;
/** Returns who approved the order; undefined unless the proof is the API's, and of this order. */
export type CheckApproval = (orderId: string, proof: string | undefined) => Promise<Actor | undefined>;

const ACT = 'approve';
const ALGORITHM = 'Ed25519';

/** An Ed25519 key whose id is its public half. `x`: the public half, `d`: the private one, both in base64url. */
export const ed25519Key = (x: string, d?: string): JWK => ({ kty: 'OKP', crv: 'Ed25519', x, ...(d && { d }), kid: x });

/** `key`: the private key, as APPROVAL_KEY has it: both halves, with a point between. */
export function createApprovalSigner(key: string): SignApproval {
  const [x = '', d] = key.split('.');
  const imported = importJWK(ed25519Key(x, d), ALGORITHM);
  return async ({ order_id, id }, { sub, ...actor }) =>
    new SignJWT({ act: ACT, order_id, id, ...actor })
      .setProtectedHeader({ alg: ALGORITHM, kid: x })
      .setSubject(sub)
      .setIssuedAt()
      .sign(await imported);
}

/** `publicKeys`: the public halves of the keys that are accepted. */
export function createApprovalCheck(publicKeys: readonly string[]): CheckApproval {
  const keys = createLocalJWKSet({ keys: publicKeys.map((x) => ed25519Key(x)) });
  return async (orderId, proof = '') => {
    try {
      const { payload } = await jwtVerify(proof, keys, { algorithms: [ALGORITHM], requiredClaims: ['sub', 'iat'] });
      return payload.act === ACT && payload.order_id === orderId ? actorIn(payload) : undefined;
    } catch {
      return undefined;
    }
  };
}
