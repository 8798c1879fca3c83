import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { describe, it } from 'node:test';

import type { WorkloadInstance } from '../../../../ca/attest/attestor.ts';
import { verifyAuditLog } from '../../../../ca/issue/audit-verify.ts';
import type { IssuedSvid } from '../../../../ca/issue/issuance.ts';
import type { IssuingService } from '../../../../ca/issue/issuing-service.ts';
import type { SigningIssuer } from '../../../../ca/issue/signing-issuer.ts';
import { parseCertificate } from '../../../../pki/certificate.ts';
import { buildCsr } from '../../../../pki/csr-builder.ts';
import type { ErrorCode } from '../../../../pki/error-table.ts';
import { isKedgeError, KedgeError } from '../../../../pki/kedge-error.ts';
import { SpiffeId, type TrustDomain } from '../../../../pki/spiffe-id.ts';
import { verifyX509Svid } from '../../../../pki/x509-svid-verify.ts';
import { instanceOf, issuingPath, START_MS, TRUST_DOMAIN } from '../../../support/issuing.ts';
import { settle } from '../../../support/manual-clock.ts';

const PEER = { address: '192.0.2.7:4711' };
const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
const CSR = buildCsr({ privateKey: key });

function ask(
  service: IssuingService,
  instance: WorkloadInstance = instanceOf(1),
  csr: Uint8Array = CSR,
  signal: AbortSignal = new AbortController().signal,
): Promise<IssuedSvid> {
  return service.submit({ api: 'kedge.v1', instance, peer: PEER, csr, signal });
}

async function refusedBy(promise: Promise<unknown>, code: ErrorCode): Promise<KedgeError> {
  let refusal: unknown;
  await assert.rejects(promise, (error) => {
    refusal = error;
    return isKedgeError(error, code);
  });
  assert.ok(refusal instanceof KedgeError);
  return refusal;
}

function newKey(type: 'P-384' | 'ed25519' | 'rsa'): KeyObject {
  if (type === 'rsa') return generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  if (type === 'ed25519') return generateKeyPairSync('ed25519').privateKey;
  return generateKeyPairSync('ec', { namedCurve: type }).privateKey;
}

describe('the issuing service', () => {
  it('issues an SVID that verifies, with what attestation and policy say, and is on the audit log', async () => {
    const { service, folder, anchor, signing, metrics } = await issuingPath({
      policyText: 'defaults: {ttl: 2h, dnsNames: ["{serviceAccount}.{namespace}.svc"]}',
    });
    const svid = await ask(service);
    const bundles = (td: TrustDomain): readonly Uint8Array[] | undefined =>
      td.equals(TRUST_DOMAIN) ? [anchor] : undefined;
    const { spiffeId, leaf } = verifyX509Svid({ chain: [...svid.chain], bundles, nowMs: START_MS });
    assert.equal(spiffeId.toString(), 'spiffe://example.org/ns/pay/sa/web');
    assert.equal(svid.spiffeId.toString(), spiffeId.toString());
    assert.deepEqual(leaf.subjectAltName?.dnsNames, ['web.pay.svc']);
    assert.equal(svid.notBeforeMs, START_MS - 120_000);
    assert.equal(svid.notAfterMs, START_MS + 7_200_000);
    assert.deepEqual([leaf.notBeforeMs, leaf.notAfterMs], [svid.notBeforeMs, svid.notAfterMs]);
    assert.equal(svid.authorityKeyId, signing.issuer.id);
    const serial = Buffer.from(leaf.serialNumber).toString('hex');
    assert.equal(Buffer.from(svid.serialNumber).toString('hex'), serial);
    const record = folder.records().at(-1);
    assert.equal(record?.event, 'svid.issued');
    assert.deepEqual(
      [
        record['spiffe_id'],
        record['serial'],
        record['issuer_id'],
        record['pod_uid'],
        record['peer'],
        record['key_type'],
      ],
      [spiffeId.toString(), serial, signing.issuer.id, 'uid-1', PEER.address, 'ec-p256'],
    );
    assert.equal(metrics.issuedCount, 1);
  });

  for (const type of ['P-384', 'ed25519', 'rsa'] as const) {
    it(`issues for a key of type ${type}`, async () => {
      const { service } = await issuingPath();
      const svid = await ask(service, instanceOf(1), buildCsr({ privateKey: newKey(type) }));
      assert.equal(svid.chain.length, 2);
    });
  }

  it('gives each SVID another serial number', async () => {
    const { service } = await issuingPath();
    const all = await Promise.all(Array.from({ length: 100 }, (_, n) => ask(service, instanceOf(n))));
    assert.equal(new Set(all.map(({ serialNumber }) => Buffer.from(serialNumber).toString('hex'))).size, 100);
  });

  it('keeps the attested ID whatever the CSR asks for, and refuses another', async () => {
    const { service, folder } = await issuingPath();
    const same = buildCsr({ privateKey: key, uriSan: SpiffeId.parse('spiffe://example.org/ns/pay/sa/web') });
    assert.equal((await ask(service, instanceOf(1), same)).spiffeId.path, '/ns/pay/sa/web');
    const other = buildCsr({
      privateKey: key,
      uriSan: SpiffeId.parse('spiffe://example.org/ns/pay/sa/admin'),
    });
    const refusal = await refusedBy(ask(service, instanceOf(1), other), 'csr_spiffe_id_mismatch');
    assert.match(refusal.message, /sa\/admin.*sa\/web/);
    await settle();
    const record = folder.records().at(-1);
    assert.deepEqual([record?.event, record?.['code']], ['svid.refused', 'csr_spiffe_id_mismatch']);
  });

  const refusals: readonly {
    name: string;
    policyText?: string;
    instance?: Partial<WorkloadInstance>;
    csr?: Uint8Array;
    issuer?: (signing: SigningIssuer) => SigningIssuer | null;
    wantCode: ErrorCode;
  }[] = [
    {
      name: 'an identity that the policy denies',
      policyText: 'deny: [{namespace: pay, reason: closed}]',
      wantCode: 'identity_denied',
    },
    {
      name: 'a key type that the policy does not allow',
      policyText: 'defaults: {keyTypes: [ed25519]}',
      wantCode: 'key_type_denied',
    },
    {
      name: 'a workload for which the policy has no valid DNS name',
      policyText: 'defaults: {dnsNames: ["{serviceAccount}.svc"]}',
      instance: { serviceAccount: 'a'.repeat(64) },
      wantCode: 'dns_name_template_mismatch',
    },
    { name: 'an empty CSR', csr: new Uint8Array(), wantCode: 'csr_malformed' },
    { name: 'a CSR that is cut short', csr: CSR.subarray(0, -1), wantCode: 'csr_malformed' },
    {
      name: 'a CSR with a byte too many',
      csr: Buffer.concat([CSR, Buffer.of(0)]),
      wantCode: 'csr_malformed',
    },
    { name: 'a CSR over the size limit', csr: new Uint8Array(16 * 1024 + 1), wantCode: 'csr_too_large' },
    {
      name: 'a CSR without proof of possession',
      csr: withBrokenSignature(CSR),
      wantCode: 'csr_signature_invalid',
    },
    {
      name: 'a workload whose names make no SPIFFE ID',
      instance: { namespace: 'a/b' },
      wantCode: 'spiffe_id_template_mismatch',
    },
    { name: 'everyone while there is no issuer', issuer: () => null, wantCode: 'issuer_unavailable' },
    {
      name: 'everyone while the issuer is only prepared',
      issuer: (s) => ({ ...s, issuer: { ...s.issuer, phase: 'prepared' } }),
      wantCode: 'issuer_unavailable',
    },
    {
      name: 'everyone once the issuer is retired',
      issuer: (s) => ({ ...s, issuer: { ...s.issuer, phase: 'retired' } }),
      wantCode: 'issuer_unavailable',
    },
    {
      name: 'everyone once the issuer is tainted',
      issuer: (s) => ({ ...s, issuer: { ...s.issuer, taintedAtMs: START_MS } }),
      wantCode: 'issuer_unavailable',
    },
    {
      name: 'everyone once the issuer has expired',
      issuer: (s) => ({ ...s, issuer: { ...s.issuer, notAfterMs: START_MS - 1 } }),
      wantCode: 'issuer_unavailable',
    },
    {
      name: 'everyone when the state says that the issuer is valid for longer than its certificate',
      issuer: (s) => ({
        ...s,
        issuer: { ...s.issuer, notAfterMs: START_MS + 1e12 },
        template: {
          ...s.template,
          issuerCertificate: { ...s.template.issuerCertificate, notAfterMs: START_MS + 1000 },
        },
      }),
      wantCode: 'lint_failed',
    },
  ];
  for (const { name, policyText = '', instance = {}, csr, issuer, wantCode } of refusals) {
    it(`refuses ${name}, with one metric and one line, and goes on`, async () => {
      let change = issuer;
      const holder: { signing?: SigningIssuer } = {};
      const path = await issuingPath({
        policyText,
        signingIssuer: () => {
          const signing = holder.signing ?? assert.fail();
          return change === undefined ? signing : change(signing);
        },
      });
      holder.signing = path.signing;
      const { service, folder, metrics } = path;
      const before = folder.records().length;
      await refusedBy(ask(service, instanceOf(1, instance), csr), wantCode);
      await settle();
      assert.deepEqual(metrics.refusals, [wantCode]);
      const lines = folder
        .records()
        .slice(before)
        .filter(({ event }) => event === 'svid.refused');
      assert.deepEqual(
        lines.map((line) => line['code']),
        [wantCode],
      );
      assert.equal(
        folder.records().some(({ event }) => event === 'svid.issued'),
        false,
      );
      change = undefined;
      if (policyText === '') await ask(service);
    });
  }

  it('releases nothing before it is durably on the audit log', async () => {
    const { service, folder } = await issuingPath();
    await ask(service);
    await settle();
    const gate = Promise.withResolvers<void>();
    folder.gate = gate.promise;
    let released = false;
    const svid = ask(service).then((given) => {
      released = true;
      return given;
    });
    await settle();
    await settle();
    assert.equal(released, false);
    gate.resolve();
    await svid;
  });

  it('issues nothing while the audit log cannot be written, and goes on once it can', async () => {
    const { service, folder, metrics } = await issuingPath();
    await ask(service);
    await settle();
    folder.failNext('write', 'partial', 'ENOSPC');
    const refusal = await refusedBy(ask(service), 'audit_unavailable');
    assert.ok((refusal.retryAfterMs ?? 0) > 0);
    assert.deepEqual(metrics.refusals, ['audit_unavailable']);
    await ask(service);
    const events = folder.records().map(({ event }) => event);
    assert.equal(events.filter((event) => event === 'svid.issued').length, 2);
    assert.equal((await verifyAuditLog(folder)).brokenAt, null);
  });

  it('signs what arrives together in slices that share a commit', async () => {
    const { service, folder } = await issuingPath();
    await ask(service);
    await settle();
    const before = folder.counts.datasync;
    await Promise.all(Array.from({ length: 200 }, (_, n) => ask(service, instanceOf(n))));
    const syncs = folder.counts.datasync - before;
    assert.ok(syncs <= 30, `${syncs} syncs for 200 SVIDs`);
    assert.equal(folder.records().filter(({ event }) => event === 'svid.issued').length, 201);
  });

  it('refuses more than it may queue, and more than its share from one instance', async () => {
    const { service, metrics } = await issuingPath({ queueCapacity: 5, instanceQueueCapacity: 2 });
    const outcomes = await Promise.allSettled([
      ...Array.from({ length: 3 }, () => ask(service, instanceOf(1))),
      ...Array.from({ length: 4 }, (_, n) => ask(service, instanceOf(10 + n))),
    ]);
    const codes = outcomes.map((outcome) =>
      outcome.status === 'fulfilled' ? 'issued' : (outcome.reason as KedgeError).code,
    );
    assert.deepEqual(codes, [
      'issued',
      'issued',
      'instance_overloaded',
      'issued',
      'issued',
      'issued',
      'overloaded',
    ]);
    assert.deepEqual(metrics.refusals, ['instance_overloaded', 'overloaded']);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') assert.ok(((outcome.reason as KedgeError).retryAfterMs ?? 0) > 0);
    }
  });

  it('tells pods of equal name in two clusters apart', async () => {
    const { service } = await issuingPath({ instanceQueueCapacity: 1 });
    await Promise.all(['east', 'west'].map((cluster) => ask(service, instanceOf(1, { cluster }))));
  });

  it('neither signs for nor records a caller who left while it waited', async () => {
    const { service, folder, metrics } = await issuingPath();
    const controller = new AbortController();
    const waiting = ask(service, instanceOf(1), CSR, controller.signal);
    assert.equal(service.queued, 1);
    controller.abort(new KedgeError('deadline_exceeded', 'too late'));
    await refusedBy(waiting, 'deadline_exceeded');
    await refusedBy(ask(service, instanceOf(2), CSR, AbortSignal.abort()), 'cancelled');
    await settle();
    assert.equal(service.queued, 0);
    assert.deepEqual(
      folder.records().map(({ event }) => event),
      ['audit.opened'],
    );
    assert.deepEqual(metrics.refusals, []);
  });

  it('lets a caller leave while the disk hangs', async () => {
    const { service, folder } = await issuingPath();
    folder.gate = new Promise(() => {});
    const controller = new AbortController();
    const waiting = ask(service, instanceOf(1), CSR, controller.signal);
    await settle();
    controller.abort();
    await refusedBy(waiting, 'cancelled');
  });

  it('holds back rather than sign without end while the disk hangs', async () => {
    const { service, folder } = await issuingPath({ queueCapacity: 5_000 });
    await ask(service);
    await settle();
    const gate = Promise.withResolvers<void>();
    folder.gate = gate.promise;
    const all = Array.from({ length: 2_300 }, (_, n) => ask(service, instanceOf(n)));
    for (let round = 0; round < 20 && service.queued > 252; round += 1) await settle();
    for (let round = 0; round < 5; round += 1) await settle();
    assert.ok(service.queued >= 100, `${service.queued} still wait`);
    gate.resolve();
    await Promise.all(all);
  });

  it('works with a signer that answers later, and refuses only those that it fails for', async () => {
    const { signing, anchor } = await issuingPath();
    let calls = 0;
    const remote: SigningIssuer = {
      ...signing,
      signer: {
        ...signing.signer,
        sign: async (data) => {
          calls += 1;
          const own = calls;
          await settle();
          if (own === 2) throw new KedgeError('key_not_found', 'the HSM forgot the key');
          return signing.signer.sign(data);
        },
      },
    };
    const { service, metrics } = await issuingPath({ signingIssuer: () => remote });
    const outcomes = await Promise.allSettled([1, 2, 3].map((n) => ask(service, instanceOf(n))));
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
    assert.deepEqual(metrics.refusals, ['key_not_found']);
    const [first] = outcomes;
    assert.ok(first?.status === 'fulfilled');
    verifyX509Svid({ chain: [...first.value.chain], bundles: () => [anchor], nowMs: START_MS });
  });

  it('issues to the CA itself in the same order of steps, past the queue', async () => {
    const { service, folder } = await issuingPath({
      queueCapacity: 0,
      policyText: 'deny: [{namespace: "*", reason: all}]',
    });
    const spiffeId = SpiffeId.of(TRUST_DOMAIN, '/kedge/ca');
    const grant = { ttlMs: 3_600_000, keyTypes: new Set(['ec-p256'] as const), dnsNames: ['localhost'] };
    const svid = await service.issueOwn({ spiffeId, csr: CSR, grant });
    const [leaf] = svid.chain;
    assert.ok(leaf !== undefined);
    assert.deepEqual(parseCertificate(leaf).subjectAltName?.uris, ['spiffe://example.org/kedge/ca']);
    const record = folder.records().at(-1);
    assert.deepEqual(
      [record?.event, record?.['api'], record?.['spiffe_id'], record?.['pod_uid']],
      ['svid.issued', 'internal', 'spiffe://example.org/kedge/ca', undefined],
    );
    const tooMuch = service.issueOwn({ spiffeId, csr: withBrokenSignature(CSR), grant });
    await refusedBy(tooMuch, 'csr_signature_invalid');
  });

  it('records refusals from before it was asked, and says nothing of errors that are not ours', async () => {
    const { service, folder, metrics } = await issuingPath();
    service.refuse({
      api: 'kedge.v1',
      error: new KedgeError('token_expired', 'the token expired'),
      peer: PEER,
    });
    service.refuse({ api: 'kedge.v1', error: new TypeError('secret detail'), instance: instanceOf(1) });
    await settle();
    const [expired, internal] = folder.records().slice(-2);
    assert.deepEqual([expired?.['code'], expired?.['peer']], ['token_expired', PEER.address]);
    assert.deepEqual([internal?.['code'], internal?.['pod_uid']], ['internal', 'uid-1']);
    // Who it was is known, and found by it.
    assert.match(String(internal?.['spiffe_id']), /^spiffe:\/\/example\.org\/ns\//);
    assert.equal(expired?.['spiffe_id'], undefined);
    assert.doesNotMatch(JSON.stringify(internal), /secret detail/);
    assert.deepEqual(metrics.refusals, ['token_expired', 'internal']);
  });

  it('answers what it took before it stops, and takes no more', async () => {
    const { service } = await issuingPath();
    const taken = Array.from({ length: 100 }, (_, n) => ask(service, instanceOf(n)));
    const drained = service.drain();
    await refusedBy(ask(service), 'shutting_down');
    await drained;
    assert.equal(service.queued, 0);
    const settled = await Promise.allSettled(taken);
    assert.ok(settled.every(({ status }) => status === 'fulfilled'));
    await service.drain();
  });
});

/** The last byte of the signature changed, the DER left as it is. */
function withBrokenSignature(csr: Uint8Array): Uint8Array {
  return csr.with(csr.length - 1, (csr.at(-1) ?? 0) ^ 1);
}
