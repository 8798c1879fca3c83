/**
 * What it costs to have the issuer's key in a PKCS#11 token: SVIDs issued in this process, 64 in flight, by an issuer
 * whose key is sealed in the trust state, and by one whose key is in SoftHSM.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Pkcs11KeyManager } from '../../ca/keys/pkcs11/pkcs11-key-manager.ts';
import { WorkerTokenThread } from '../../ca/keys/pkcs11/token-thread.ts';
import type { Signer } from '../../ca/keys/key-manager.ts';
import { systemClock } from '../../host/clock.ts';
import { instanceOf, issuingPath, localSigner, START_MS, testIssuer } from '../support/issuing.ts';
import { PIN, SoftHsm, softHsmMissing } from '../support/softhsm.ts';
import { inTurns, type Measurement, median, medianRatio } from './measurement.ts';
import { freshCsrs } from './workload-file.ts';

const BATCH = 200;
const IN_FLIGHT = 64;

/** The measurements; empty, with a word why, where there is no SoftHSM. */
export async function hsm(rounds: number, progress: (text: string) => void): Promise<Measurement[]> {
  const missing = softHsmMissing();
  if (missing !== null) {
    progress(`hsm: skipped, ${missing}`);
    return [];
  }
  const folder = mkdtempSync(join(tmpdir(), 'kedge-bench-hsm-'));
  try {
    const token = new SoftHsm(folder);
    token.makeToken('bench');
    writeFileSync(join(folder, 'pin'), PIN, { mode: 0o600 });
    const thread = new WorkerTokenThread({ module: token.module, clock: systemClock, timeoutMs: 60_000 });
    const keys = new Pkcs11KeyManager({
      trustDomain: 'example.org',
      token: 'bench',
      pin: async () => PIN,
      thread,
    });
    const ec = await keys.signer(await keys.generate('ec', 'ec-p256'));
    const csrs = freshCsrs(BATCH);
    const figures = await inTurns(rounds, {
      store: await issuingWith(localSigner(), csrs),
      token: await issuingWith(ec, csrs),
    });
    await thread.close();
    const us = (values: readonly number[]): string => `${median(values).toFixed(0)} us`;
    return [
      {
        metric: 'svid_with_issuer_in_softhsm_over_store',
        value: medianRatio(figures.token, figures.store),
        reach: 3,
        better: 'lower',
        detail: `${us(figures.token)} each, ${us(figures.store)} with the key in the trust state`,
      },
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Gives what issues a batch under an issuer of this key, and answers with microseconds for each SVID. */
async function issuingWith(signer: Signer, csrs: readonly Uint8Array[]): Promise<() => Promise<number>> {
  const { signing } = await testIssuer(signer);
  const { service } = await issuingPath({ signingIssuer: () => signing });
  const { signal } = new AbortController();
  return async () => {
    const startedAt = process.hrtime.bigint();
    let next = 0;
    const one = async (): Promise<void> => {
      for (let index = next++; index < csrs.length; index = next++) {
        const csr = csrs[index] ?? new Uint8Array();
        const instance = instanceOf(index, { tokenExpiresAtMs: START_MS + 3_600_000 });
        await service.submit({ api: 'kedge.v1', instance, peer: { address: '127.0.0.1' }, csr, signal });
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, one));
    return Number(process.hrtime.bigint() - startedAt) / 1_000 / csrs.length;
  };
}
