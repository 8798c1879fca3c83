/**
 * At least 100,000 hostile inputs over the parsers that meet strangers' bytes: no crash, no hang, and nothing
 * accepted that OpenSSL refuses where both judge. Node's X509Certificate is OpenSSL in this process; CSRs go to
 * the openssl command where the machine has it.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { after, describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import { readDeltaRequest, readSotwRequest, type SotwRequest } from '../../agent/feed/sds-request.ts';
import { verifyJwt } from '../../ca/attest/jwt.ts';
import { parseTrustState } from '../../ca/authority/trust-state-codec.ts';
import { CURRENT_CLUSTER } from '../../ca/inject/cluster-capabilities.ts';
import { injectYaml } from '../../ca/inject/yaml-injection.ts';
import { parsePolicy } from '../../ca/issue/policy-file.ts';
import { admit } from '../../ca/webhook/admission.ts';
import { formatAdmissionReview, parseAdmissionReview } from '../../ca/webhook/admission-review.ts';
import { formatBundleDocument, parseBundleDocument } from '../../pki/bundle-document.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { parseCrl } from '../../pki/crl.ts';
import { buildCsr } from '../../pki/csr-builder.ts';
import { type Csr, parseCsr, verifyProofOfPossession } from '../../pki/csr.ts';
import { LIMITS } from '../../pki/limits.ts';
import { decodePem, encodePem } from '../../pki/pem.ts';
import { SpiffeId, TrustDomain } from '../../pki/spiffe-id.ts';
import { admissionReview } from '../support/admission-reviews.ts';
import { spoiltDer } from '../support/der-tree.ts';
import { spoilt, spoiltText } from '../support/mutation.ts';
import { podWith, SETTINGS } from '../support/pods.ts';
import { fuzz, type FuzzTally } from './run-fuzz.ts';
import {
  bundleSeeds,
  certificateSeeds,
  crlSeeds,
  discoveryRequestSeeds,
  jwtSeeds,
  MANIFEST_SEED,
  POLICY_SEED,
  trustStateSeeds,
} from './seeds.ts';

/** Half of it spoilt byte by byte, half element by element. */
const hostileDer = (seeds: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> =>
  fc.oneof(spoilt(seeds), spoiltDer(seeds));

const tallies: [name: string, tally: FuzzTally][] = [];

function report(t: TestContext, tally: FuzzTally): void {
  tallies.push([t.name, tally]);
  t.diagnostic(`${tally.inputs} inputs, ${tally.accepted} accepted`);
}

const keys: KeyObject[] = [
  generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
  generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey,
  generateKeyPairSync('ed25519').privateKey,
  generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey,
];
const uriSan = SpiffeId.parse('spiffe://example.org/ns/demo/sa/web');
const csrSeeds = keys.flatMap((privateKey) => [buildCsr({ privateKey }), buildCsr({ privateKey, uriSan })]);

describe('the parsers, fed with hostile input', () => {
  it('CSR: refuses or reads', (t) => {
    const suspects: Csr[] = [];
    report(
      t,
      fuzz(30_000, hostileDer(csrSeeds), parseCsr, (_der, csr) => {
        if (suspects.length < 400) suspects.push(csr);
      }),
    );
    if (spawnSync('openssl', ['version']).status !== 0) {
      t.diagnostic('the second opinion was skipped: no openssl command on this machine');
      return;
    }
    for (const { der } of suspects) {
      const opinion = spawnSync('openssl', ['req', '-inform', 'DER', '-noout'], { input: der });
      assert.equal(
        opinion.status,
        0,
        `OpenSSL refuses a CSR that Kedge read: ${Buffer.from(der).toString('hex')}`,
      );
    }
  });

  it('CSR: never takes a spoilt one for proof of possession', (t) => {
    const known = new Set(csrSeeds.map((der) => Buffer.from(parseCsr(der).info).toString('hex')));
    report(
      t,
      fuzz(
        6_000,
        hostileDer(csrSeeds),
        (der) => {
          const csr = parseCsr(der);
          verifyProofOfPossession(csr);
          return csr;
        },
        (_der, csr) => assert.ok(known.has(Buffer.from(csr.info).toString('hex')), 'a changed CSR verifies'),
      ),
    );
  });

  it('certificate: refuses, or reads what OpenSSL reads', async (t) => {
    report(
      t,
      fuzz(30_000, hostileDer(await certificateSeeds()), parseCertificate, (der, certificate) => {
        const opinion = new X509Certificate(der);
        const serial = Buffer.from(certificate.serialNumber).toString('hex').toUpperCase();
        assert.equal(opinion.serialNumber.padStart(40, '0'), serial.padStart(40, '0'));
        assert.equal(Date.parse(opinion.validTo), certificate.notAfterMs);
      }),
    );
  });

  it('CRL: refuses or reads', async (t) => {
    report(t, fuzz(8_000, hostileDer(await crlSeeds()), parseCrl));
  });

  it('SPIFFE ID: reads what the grammar of the standard has, and nothing else', (t) => {
    const grammar = /^spiffe:\/\/[a-z0-9._-]{1,255}(\/(?!\.{1,2}(\/|$))[A-Za-z0-9._-]+)*$/i;
    const host = /^[^:]+:\/\/([^/]*)/;
    const judge = (text: string): boolean =>
      grammar.test(text) &&
      (host.exec(text)?.[1] ?? '') === (host.exec(text)?.[1] ?? '').toLowerCase() &&
      Buffer.byteLength(text) <= 2048;
    const seeds = [
      'spiffe://example.org/ns/demo/sa/web',
      'spiffe://a.b-c_d',
      'SPIFFE://example.org/A/..b/.c',
      `spiffe://x/${'y'.repeat(2036)}`,
    ];
    const readable = (text: string): boolean => {
      try {
        SpiffeId.parse(text);
        return true;
      } catch {
        return false;
      }
    };
    for (const seed of seeds) assert.equal(readable(seed), judge(seed), seed);
    const disagreements: string[] = [];
    report(
      t,
      fuzz(30_000, spoiltText(seeds), (text) => {
        if (readable(text) !== judge(text)) disagreements.push(text);
        return SpiffeId.parse(text);
      }),
    );
    assert.deepEqual(disagreements, []);
  });

  it('trust domain: refuses or reads', (t) => {
    report(
      t,
      fuzz(5_000, spoiltText(['example.org', 'a', 'x'.repeat(255)]), (name) => TrustDomain.parse(name)),
    );
  });

  it('bundle document: refuses, or reads what it would write', async (t) => {
    report(
      t,
      fuzz(10_000, spoilt(await bundleSeeds()), parseBundleDocument, (_bytes, bundle) => {
        assert.deepEqual(parseBundleDocument(formatBundleDocument(bundle)), bundle);
      }),
    );
  });

  it('PEM: refuses or reads', (t) => {
    const seeds = csrSeeds.map((der) => encodePem('CERTIFICATE REQUEST', der));
    report(
      t,
      fuzz(5_000, spoiltText(seeds), (text) => decodePem(text, 'CERTIFICATE REQUEST')),
    );
  });

  it('token: refuses, or it is the one that was signed', async (t) => {
    const { tokens, expected } = jwtSeeds();
    report(
      t,
      fuzz(
        10_000,
        spoiltText(tokens),
        (token) => verifyJwt(token, expected),
        (token) => assert.ok(tokens.includes(token)),
      ),
    );
  });

  it('policy file: refuses or reads', (t) => {
    const bounds = { maxTtlMs: 30 * 86_400_000, backdateMs: 120_000 };
    report(
      t,
      fuzz(5_000, spoiltText([POLICY_SEED]), (text) => parsePolicy(text, 'policy.yaml', bounds)),
    );
  });

  it('trust state: refuses or reads', async (t) => {
    report(t, fuzz(5_000, spoilt(await trustStateSeeds()), parseTrustState));
  });

  it('SDS request: refuses, or reads what is bounded and fit for a log', (t) => {
    const seeds = discoveryRequestSeeds();
    const check = (
      { node, nack }: Pick<SotwRequest, 'node' | 'nack'>,
      ...names: ReadonlySet<string>[]
    ): void => {
      assert.match(node?.name ?? '', /^[!-~]{0,56}$/);
      assert.match(nack ?? '', /^[ -~]{0,203}$/);
      for (const set of names) {
        assert.ok(set.size <= LIMITS.sdsResourceNames && !set.has(''));
        assert.ok([...set].join('').length <= LIMITS.sdsNamesChars);
      }
    };
    const isDisabled = false;
    report(
      t,
      fuzz(
        10_000,
        spoilt(seeds.sotw),
        (bytes) => readSotwRequest(bytes, isDisabled),
        (_bytes, request) => check(request, request.names),
      ),
    );
    report(
      t,
      fuzz(
        10_000,
        spoilt(seeds.delta),
        (bytes) => readDeltaRequest(bytes, isDisabled),
        (_bytes, request) => {
          check(request, request.subscribe, request.unsubscribe);
          assert.ok(request.initialVersions.size <= LIMITS.sdsResourceNames);
        },
      ),
    );
  });

  it('AdmissionReview: refuses, or decides about whatever pod is in it', (t) => {
    const seed = JSON.stringify(admissionReview(podWith({ 'canary-port': '8443' })));
    const context = { settings: SETTINGS, capabilities: CURRENT_CLUSTER, ownNamespace: 'kedge' };
    const decide = (text: string): string => {
      const request = parseAdmissionReview(Buffer.from(text));
      return formatAdmissionReview(request, admit(request, context).answer);
    };
    report(t, fuzz(5_000, spoiltText([seed]), decide));
  });

  it('manifests: refuses, or adds agents and takes nothing away', (t) => {
    const options = {
      settings: SETTINGS,
      capabilities: CURRENT_CLUSTER,
      ownNamespace: 'kedge',
      everyNamespace: true,
      file: 'fuzz',
    };
    const lose = (text: string, after: string): boolean => {
      let at = 0;
      // In the place of a null something is put.
      for (const character of text.replaceAll(/null|~/g, '')) {
        at = after.indexOf(character, at) + 1;
        if (at === 0) return true;
      }
      return false;
    };
    report(
      t,
      fuzz(
        2_000,
        spoiltText([MANIFEST_SEED]),
        (text) => injectYaml(text, options),
        (text, { text: after, outcomes }) => {
          const replaces = outcomes.some(
            ({ injection }) =>
              injection.kind === 'injected' && injection.edits.some(({ op }) => op === 'replace'),
          );
          assert.ok(replaces || !lose(text, after));
        },
      ),
    );
  });

  it('arbitrary text as any of them: refuses', (t) => {
    const parsers = [
      (text: string) => parseBundleDocument(Buffer.from(text)),
      (text: string) => parsePolicy(text, 'policy.yaml', { maxTtlMs: 1_000_000, backdateMs: 0 }),
      (text: string) => parseCsr(Buffer.from(text)),
    ];
    report(
      t,
      fuzz(
        3_000,
        fc.tuple(fc.string({ unit: 'binary', maxLength: 400 }), fc.constantFrom(...parsers)),
        ([text, parse]) => {
          parse(text);
        },
      ),
    );
  });
});

after(() => {
  for (const [name, { accepted }] of tallies) {
    if (name.startsWith('token') || name.includes('proof of possession')) continue;
    assert.ok(accepted > 0, `${name}: everything was refused, so the run says nothing of what is read`);
  }
  const total = tallies.reduce((sum, [, { inputs }]) => sum + inputs, 0);
  console.log(`fuzz: ${total} inputs over ${tallies.length} parsers`);
  assert.ok(total >= 100_000, 'the fuzz tier promises at least 100,000 inputs');
});
