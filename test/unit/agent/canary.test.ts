import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { type CanaryObservation, canaryErrorCode, judgeCanary } from '../../../agent/canary.ts';
import {
  alertOfErrorCode,
  answerOfAlert,
  answerOfStatus,
  CANARY_ANSWERS,
  type CanaryAnswer,
} from '../../../agent/canary-answer.ts';
import type { IdentitySnapshot } from '../../../agent/snapshot.ts';
import { parseCertificate } from '../../../pki/certificate.ts';
import { HOUR_MS, makeAnchor, type TestCa } from '../../support/certificates.ts';
import { SnapshotFactory } from '../../support/snapshots.ts';

const NOW_MS = Date.UTC(2026, 0, 1);

describe('the verdict on what the canary saw', () => {
  let factory: SnapshotFactory;
  let newest: IdentitySnapshot;
  let other: TestCa;
  before(async () => {
    factory = await SnapshotFactory.make(NOW_MS);
    other = await makeAnchor({ notBeforeMs: NOW_MS - HOUR_MS, notAfterMs: NOW_MS + HOUR_MS });
    newest = { generation: 3, svid: await factory.svid(), bundle: factory.bundle(7n, other) };
  });
  const subject = (der: Uint8Array): Uint8Array => parseCertificate(der).subject;
  const names = (): Uint8Array[] => [subject(factory.anchor.der), subject(other.der)];
  const judged = (change: Partial<CanaryObservation> = {}, snapshot = newest, nowMs = NOW_MS) =>
    judgeCanary(
      {
        presented: snapshot.svid.chain,
        asked: true,
        authorities: names(),
        answer: 'http_served',
        detail: 'HTTP 200',
        ...change,
      },
      snapshot,
      nowMs,
    );

  it('is proven when the newest SVID is presented, verifies, and ours is accepted', () => {
    const result = judged();
    assert.equal(result.verdict, 'proven');
    assert.equal(canaryErrorCode(result), null);
    assert.deepEqual(result.anchorKeyId, parseCertificate(factory.anchor.der).subjectKeyId);
    assert.equal(result.proven?.bundleSequence, 7n);
    assert.deepEqual(result.proven?.serialNumber, newest.svid.serialNumber);
  });

  it('proves the SVID and no bundle where the proxy does not say which authorities it accepts', () => {
    for (const authorities of [null, []]) {
      const { verdict, proven } = judged({ authorities });
      assert.equal(verdict, 'proven');
      assert.equal(proven?.bundleSequence, 0n);
    }
  });

  it('proves no bundle while the proxy accepts an authority that the bundle has not', async () => {
    const removed = await makeAnchor();
    const { verdict, authorities, proven } = judged({ authorities: [...names(), subject(removed.der)] });
    assert.deepEqual([verdict, authorities, proven?.bundleSequence], ['proven', 'extra', 0n]);
  });

  it('is outdated while the proxy lacks an anchor of the newest bundle', () => {
    const result = judged({ authorities: names().slice(1) });
    assert.deepEqual([result.verdict, result.authorities], ['outdated', 'missing']);
    assert.equal(result.proven, null);
    assert.equal(canaryErrorCode(result), 'canary_outdated');
  });

  it('tells nothing of the bundle by two anchors of one name', async () => {
    const twin = await makeAnchor({ subject: other.subject });
    const bundle = factory.bundle(7n, other, twin);
    assert.equal(judged({}, { ...newest, bundle }).authorities, 'unknown');
  });

  it('is outdated when another SVID of this identity is presented, whatever the proxy answers', async () => {
    const { chain } = await factory.svid();
    for (const answer of Object.keys(CANARY_ANSWERS) as CanaryAnswer[]) {
      const { verdict, proven } = judged({ presented: chain, answer });
      assert.deepEqual([verdict, proven], ['outdated', null], answer);
    }
  });

  it('is untrusted, with the code of the verifier, for everything else that is presented', async () => {
    const foreign = await SnapshotFactory.make(NOW_MS);
    const someoneElse = await factory.svid({ id: 'spiffe://example.org/ns/default/sa/other' });
    const garbage = Uint8Array.of(0x30, 0x03, 1, 2, 3);
    const [leaf] = newest.svid.chain;
    const table = [
      { name: 'a foreign chain', presented: (await foreign.svid()).chain, want: 'svid_untrusted' },
      { name: "another's SVID", presented: someoneElse.chain, want: 'svid_unexpected_id' },
      { name: 'no certificate at all', presented: [garbage], want: 'svid_malformed' },
      { name: 'an anchor', presented: [factory.anchor.der], want: 'svid_leaf_is_ca' },
      { name: 'a leaf alone', presented: [leaf ?? garbage], want: 'svid_untrusted' },
      {
        name: 'too many certificates',
        presented: Array.from({ length: 9 }, () => leaf ?? garbage),
        want: 'svid_chain_too_long',
      },
    ];
    for (const { name, presented, want } of table) {
      const result = judged({ presented });
      assert.deepEqual([result.verdict, canaryErrorCode(result)], ['untrusted', want], name);
      assert.equal(result.proven, null, name);
    }
    const late = judged({}, newest, NOW_MS + 2 * HOUR_MS);
    assert.deepEqual([late.verdict, late.errorCode], ['untrusted', 'svid_expired']);
  });

  it('is refused when the proxy does not accept the SVID that it presents itself', () => {
    const result = judged({ answer: 'alert_certificate', detail: 'unknown_ca' });
    assert.equal(result.verdict, 'refused');
    assert.equal(canaryErrorCode(result), 'canary_refused');
  });

  it('is unknown where the proxy asks for no certificate: it accepts everyone', () => {
    const { verdict, answer, proven } = judged({ asked: false, authorities: null });
    assert.deepEqual([verdict, answer, proven], ['unknown', 'not_asked', null]);
  });

  it('is proven by no answer but those that the table calls accepted', () => {
    const proving = (Object.keys(CANARY_ANSWERS) as CanaryAnswer[]).filter(
      (answer) => judged({ answer }).verdict === 'proven',
    );
    assert.deepEqual(proving, ['http_served', 'handshake_done', 'ticket_sent']);
  });

  it('is unknown where nothing was presented', () => {
    assert.equal(judged({ presented: [], asked: false, answer: 'unreachable' }).verdict, 'unknown');
  });
});

describe('the answers of a proxy', () => {
  it('are read from an HTTP status', () => {
    const table: Record<string, readonly number[]> = {
      http_served: [200, 204, 301, 399, 404, 405, 500, 503, 599],
      http_refused: [400, 495, 496],
      http_other: [100, 199, 401, 403, 407, 408, 421, 429, 494, 497],
    };
    for (const [want, statuses] of Object.entries(table)) {
      for (const status of statuses) assert.equal(answerOfStatus(status), want, String(status));
    }
  });

  it('are read from the error code of an alert', () => {
    const table = [
      ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'unknown_ca', 'alert_certificate'],
      ['ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_EXPIRED', 'certificate_expired', 'alert_certificate'],
      ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'certificate_required', 'alert_certificate'],
      ['ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE', 'bad_certificate', 'alert_certificate'],
      ['ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', 'protocol_version', 'alert_other'],
      ['ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE', 'handshake_failure', 'alert_other'],
      ['ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR', 'internal_error', 'alert_other'],
    ] as const;
    for (const [code, name, want] of table) {
      assert.equal(alertOfErrorCode(code), name);
      assert.equal(answerOfAlert(name), want);
    }
    for (const code of ['ERR_SSL_WRONG_VERSION_NUMBER', 'ECONNRESET', '']) {
      assert.equal(alertOfErrorCode(code), null);
    }
  });
});
