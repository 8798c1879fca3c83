import { systemClock } from '../host/clock.ts';
import { systemRandom } from '../host/random.ts';
import { parseCertificate } from '../pki/certificate.ts';
import { socketTarget } from '../cli/endpoint-socket.ts';
import { WorkloadApiClient } from '../cli/workload-api-client.ts';
import type { X509Identity } from '../cli/x509-context.ts';
import { type HeldIdentity, tellDemo } from './message.ts';
import { defaultIdentity } from './workload-tls.ts';

/** The identity of a demo workload: the newest that its agent has given. */
export interface WorkloadIdentity {
  current(): X509Identity;
}

/**
 * Follows the Workload API at SPIFFE_ENDPOINT_SOCKET and resolves with the first identity; `onChange` runs at each
 * later one, before the demo is told of it. A stream that breaks is opened again; the identity stays meanwhile.
 */
export async function followIdentity(onChange: (identity: X509Identity) => void): Promise<WorkloadIdentity> {
  const client = new WorkloadApiClient({
    target: socketTarget(process.env['SPIFFE_ENDPOINT_SOCKET']),
    clock: systemClock,
    random: systemRandom,
  });
  const updates = client.watch(new AbortController().signal);
  let current = defaultIdentity((await updates.next()).value);
  tellDemo({ kind: 'identity', identity: describe(current) });
  const follow = async (): Promise<void> => {
    for await (const context of updates) {
      const previous = current;
      current = defaultIdentity(context);
      onChange(current);
      if (Buffer.compare(leafOf(previous), leafOf(current)) !== 0) {
        tellDemo({ kind: 'identity', identity: describe(current) });
      }
    }
  };
  follow().catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
  return { current: () => current };
}

function leafOf(identity: X509Identity): Uint8Array {
  const [leaf] = identity.chain;
  if (leaf === undefined) throw new TypeError('an identity without a certificate');
  return leaf;
}

function describe(identity: X509Identity): HeldIdentity {
  const leaf = parseCertificate(leafOf(identity));
  return {
    spiffeId: identity.spiffeId.toString(),
    serialNumber: Buffer.from(leaf.serialNumber).toString('hex'),
    issuerId: Buffer.from(leaf.authorityKeyId ?? []).toString('hex'),
    notBeforeMs: leaf.notBeforeMs,
    notAfterMs: leaf.notAfterMs,
  };
}
