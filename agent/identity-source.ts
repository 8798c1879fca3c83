import { generateKeyPairSync } from 'node:crypto';
import type { Clock } from '../host/clock.ts';
import { withDeadline } from '../host/deadline.ts';
import type { Random } from '../host/random.ts';
import { buildCsr } from '../pki/csr-builder.ts';
import { KedgeError } from '../pki/kedge-error.ts';
import type { SpiffeId, TrustDomain } from '../pki/spiffe-id.ts';
import { checkBundle, checkSvid } from './ca-answer.ts';
import type { CaClient } from './ca-client.ts';
import { type Deadline, msUntil } from './deadline.ts';
import { drawRenewal, expiryOf, type Renewal } from './renewal.ts';
import type { BundleSnapshot, SvidSnapshot } from './snapshot.ts';

/** An SVID with less left than this, milliseconds, is as good as none: taking it would make a busy loop. */
const MIN_LIFETIME_MS = 250;

/** An SVID that passed every check, and what belongs to it. */
export interface IssuedIdentity {
  readonly svid: SvidSnapshot;
  readonly bundle: BundleSnapshot;
  readonly expiry: Deadline;
  readonly renewal: Renewal;
  /** This clock minus the CA's, milliseconds; null = not measured. */
  readonly clockSkewMs: number | null;
}

/** Where SVIDs come from. */
export interface IdentitySource {
  /**
   * One attempt. `held` is the newest bundle that the agent has. Throws what the token file, the CA or the checks of
   * its answer throw.
   */
  issue(held: BundleSnapshot | null, signal: AbortSignal): Promise<IssuedIdentity>;
}

/** What {@link caIdentitySource} is made of. */
export interface CaIdentitySourceOptions {
  readonly client: Pick<CaClient, 'issueX509Svid'>;
  readonly readToken: () => Promise<string>;
  readonly trustDomain: TrustDomain;
  /** Absent = whatever the CA attests from the token. */
  readonly expectedId?: SpiffeId;
  /** Longest that one attempt may take, reading the token and connecting included, in milliseconds. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly random: Random;
}

/** SVIDs from the CA: a new P-256 key each time, the token read anew, the answer checked before anyone sees it. */
export function caIdentitySource(options: CaIdentitySourceOptions): IdentitySource {
  const { client, readToken, trustDomain, expectedId, timeoutMs, clock, random } = options;
  return {
    async issue(held, signal) {
      const reading = readToken();
      // While the file is read: the key. On this thread, since it takes less than handing it to another.
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const csr = buildCsr({ privateKey, ...(expectedId === undefined ? {} : { uriSan: expectedId }) });
      const deadline = { clock, timeoutMs, what: 'the CA' };
      const { response, sent, received } = await withDeadline(deadline, signal, async (end) =>
        client.issueX509Svid(csr, await reading, end),
      );

      const bundle = checkBundle(response.bundle, trustDomain, held);
      const svid = checkSvid({
        chain: response.x509Svid,
        bundle,
        privateKey,
        trustDomain,
        expectedId,
        nowMs: received.wallMs,
      });
      // The CA's clock was read about half of the round trip ago.
      const roundTripMs = received.monotonicMs - sent.monotonicMs;
      const serverTimeMs = Number(response.serverTimeMs);
      const isMeasured = serverTimeMs !== 0;
      if (isMeasured && (serverTimeMs < svid.notBeforeMs || serverTimeMs >= svid.notAfterMs)) {
        throw new KedgeError(
          'ca_answer_invalid',
          'the answer of the CA is refused: its clock is outside of the SVID',
        );
      }
      const caNowMs = isMeasured ? serverTimeMs + roundTripMs / 2 : received.wallMs;
      const expiry = expiryOf(svid.notAfterMs, received, caNowMs);
      if (msUntil(expiry, received) < MIN_LIFETIME_MS) {
        throw new KedgeError(
          'ca_answer_invalid',
          'the answer of the CA is refused: the SVID is about to expire',
          {
            hint: 'compare the clocks of this machine and of the CA, and the lifetime of its issuer',
          },
        );
      }
      const renewal = drawRenewal({
        now: received,
        expiry,
        caNowMs,
        hint:
          response.renewal === undefined
            ? undefined
            : {
                notBeforeMs: Number(response.renewal.notBeforeMs),
                notAfterMs: Number(response.renewal.notAfterMs),
              },
        fraction: random.fraction(),
      });
      const clockSkewMs = isMeasured ? Math.round(received.wallMs - caNowMs) : null;
      return { svid, bundle, expiry, renewal, clockSkewMs };
    },
  };
}
