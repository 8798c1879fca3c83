import * as z from 'zod';
import { KedgeError, quote } from '../pki/kedge-error.ts';
import { TrustDomain } from '../pki/spiffe-id.ts';

/** What an agent, or a CA, says at `/identity`. */
export interface PodIdentity {
  readonly trustDomain: TrustDomain;
  readonly phase: string;
  /** DER, leaf first; null = it serves none now. */
  readonly chain: readonly Uint8Array[] | null;
  readonly bundle: { readonly sequence: bigint; readonly x509Authorities: readonly Uint8Array[] } | null;
  /** Its clock, milliseconds since the Unix epoch; null where it does not say: agents do not. */
  readonly timeMs: number | null;
}

const MAX_CERTIFICATES = 64;
const certificate = z
  .base64()
  .min(4)
  .max(64 * 1024)
  .transform((text) => new Uint8Array(Buffer.from(text, 'base64')));
const certificates = z.array(certificate).max(MAX_CERTIFICATES);
const schema = z.object({
  trustDomain: z.string().max(255),
  phase: z.enum(['starting', 'denied', 'expired', 'serving']),
  svid: z.object({ chain: certificates.min(1) }).nullable(),
  bundle: z.object({ sequence: z.string().regex(/^\d{1,20}$/), x509Authorities: certificates }).nullable(),
  timeMs: z.number().int().nonnegative().optional(),
});

/** Reads the answer of an agent. Members that this version does not know are passed over. Throws `agent_answer_invalid`. */
export function readPodIdentity(answer: unknown): PodIdentity {
  const result = schema.safeParse(answer);
  if (!result.success) {
    const [problem] = result.error.issues;
    throw new KedgeError(
      'agent_answer_invalid',
      `the answer is not what an agent gives: ${quote(`${problem?.path.join('.') ?? ''}: ${problem?.message ?? ''}`, 200)}`,
      { hint: 'check that the port is that of the agent (annotation kedge.io/http-port)' },
    );
  }
  const { trustDomain, phase, svid, bundle, timeMs } = result.data;
  return {
    trustDomain: TrustDomain.parse(trustDomain),
    phase,
    chain: svid === null ? null : svid.chain,
    bundle:
      bundle === null ? null : { sequence: BigInt(bundle.sequence), x509Authorities: bundle.x509Authorities },
    timeMs: timeMs ?? null,
  };
}
