import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseTrustState } from '../../ca/authority/trust-state-codec.ts';
import type { TrustState } from '../../ca/authority/trust-state.ts';
import { SqliteTrustStore } from '../../ca/store/sqlite-trust-store.ts';
import { systemClock } from '../../host/clock.ts';
import { systemRandom } from '../../host/random.ts';
import { verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import { type CaUnderTest, getBundle, issue, runningCa } from '../support/running-ca.ts';
import { PIN, SoftHsm, softHsmMissing } from '../support/softhsm.ts';
import { suiteFolder } from '../support/suite-folder.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const missing = softHsmMissing();

/** An SVID of the CA verifies against its bundle. */
async function serves(plane: CaUnderTest): Promise<void> {
  const client = await plane.connect();
  const { x509Svid } = await issue(client, plane.token());
  const { x509Authorities } = await getBundle(plane.ca);
  verifyX509Svid({ chain: x509Svid, bundles: () => x509Authorities, nowMs: Date.now() });
}

async function stateIn(folder: string): Promise<TrustState> {
  const store = new SqliteTrustStore({
    path: join(folder, 'trust.sqlite'),
    clock: systemClock,
    random: systemRandom,
  });
  const stored = await store.read(new AbortController().signal);
  await store.close();
  return parseTrustState(stored?.document ?? assert.fail('there is no trust state'));
}

describe('a CA with keys in a PKCS#11 token', { skip: missing ?? false }, () => {
  if (missing !== null) return;
  const suite = suiteFolder();
  const hsm = new SoftHsm(suite);
  hsm.makeToken('kedge');
  const pinFile = join(suite, 'pin');
  writeFileSync(pinFile, PIN, { mode: 0o600 });

  const configFile = (name: string, anchor: string, issuer: string): string => {
    const path = join(suite, name);
    const pkcs11 = JSON.stringify({ module: hsm.module, token: 'kedge', pinFile });
    writeFileSync(
      path,
      `anchor: {keyManager: ${anchor}}\nissuer: {keyManager: ${issuer}}\nkeys: {pkcs11: ${pkcs11}}\n`,
    );
    return path;
  };

  for (const issuer of ['store', 'pkcs11'] as const) {
    it(`has its anchor there and its issuer in ${issuer}, serves, and does so after a new start`, async (t) => {
      const folder = temporaryFolder(t);
      const file = configFile(`${issuer}.yaml`, 'pkcs11', issuer);
      const plane = await runningCa(t, { folder, file });
      await serves(plane);
      await plane.ca.close();
      const state = await stateIn(folder);
      assert.deepEqual([state.anchors[0]?.key?.manager, state.issuers[0]?.key.manager], ['pkcs11', issuer]);
      await serves(await runningCa(t, { folder, file }));
    });
  }

  it('starts and serves without the token as long as its issuer is in the trust state', async (t) => {
    const folder = temporaryFolder(t);
    const file = configFile('away.yaml', 'pkcs11', 'store');
    const plane = await runningCa(t, { folder, file });
    await plane.ca.close();
    hsm.remove();
    try {
      await serves(await runningCa(t, { folder, file }));
    } finally {
      hsm.putBack();
    }
  });
});
