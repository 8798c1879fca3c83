/**
 * Issuing in process, on one core: CSR bytes in, chain bytes out, policy and audit on disk included, against the
 * bound and against stock `@peculiar/x509` doing the same work. Run by main.ts as a process of its own, bound to a
 * core; prints one JSON line of microseconds of CPU per SVID, round by round.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { WorkloadInstance } from '../../ca/attest/attestor.ts';
import { DEFAULT_SPIFFE_ID_TEMPLATE, SpiffeIdTemplate } from '../../ca/attest/spiffe-id-template.ts';
import { fileAuditFolder } from '../../ca/issue/audit-folder.ts';
import { AuditLog } from '../../ca/issue/audit-log.ts';
import { registerIssuanceMetrics } from '../../ca/issue/issuance-metrics.ts';
import { IssuingService } from '../../ca/issue/issuing-service.ts';
import { parsePolicy } from '../../ca/issue/policy-file.ts';
import { RefusalLog } from '../../ca/issue/refusal.ts';
import type { SigningIssuer } from '../../ca/issue/signing-issuer.ts';
import { systemClock } from '../../host/clock.ts';
import { silentLog } from '../../host/log.ts';
import { MetricsRegistry } from '../../host/metrics.ts';
import { systemRandom } from '../../host/random.ts';
import { toHex } from '../../pki/bytes.ts';
import { parseCertificate } from '../../pki/certificate.ts';
import { TrustDomain } from '../../pki/spiffe-id.ts';
import { newHierarchy } from '../support/hierarchy.ts';
import { boundInputs, boundSigner, boundStep } from './bound.ts';
import { inTurns } from './measurement.ts';
import { stockIssuer } from './stock-peculiar.ts';
import { freshCsrs } from './workload-file.ts';

const [folder = '', roundsText = '7'] = process.argv.slice(2);
const BATCH = 500;
const WARM_UP_BATCHES = 24;
const STOCK_BATCH = 20;
/** Turns in each round: short ones, so that a noisy neighbour hits what is compared alike. */
const TURNS = 3;
const IN_FLIGHT = 64;
const DAY_MS = 86_400_000;
const trustDomain = TrustDomain.parse('example.org');

async function signingIssuer(): Promise<SigningIssuer> {
  const { anchor, issuer, issuerKey, template } = await newHierarchy(Date.now() - DAY_MS);
  const { subjectKeyId, notBeforeMs, notAfterMs, spki } = template.issuerCertificate;
  const idOf = (keyId: Uint8Array | undefined): string => toHex(keyId ?? new Uint8Array(0));
  return {
    issuer: {
      id: idOf(subjectKeyId),
      phase: 'active',
      phaseSinceMs: notBeforeMs,
      taintedAtMs: null,
      certificate: issuer,
      notBeforeMs,
      notAfterMs,
      anchorId: idOf(parseCertificate(anchor).subjectKeyId),
      intermediates: [],
      key: { id: 'bench', manager: 'store', algorithm: 'ec-p256', spki, reference: new Uint8Array(0) },
    },
    signer: issuerKey,
    template,
    chain: [issuer],
  };
}

const policyText =
  'rules: [{ match: { namespace: "pay*" }, ttl: 1h, dnsNames: ["{serviceAccount}.{namespace}.svc"] }]';
const policy = parsePolicy(policyText, 'policy.yaml', { maxTtlMs: 30 * DAY_MS, backdateMs: 120_000 });
const auditFolder = mkdtempSync(join(folder, 'audit-'));
const audit = await AuditLog.open({
  folder: fileAuditFolder(auditFolder),
  clock: systemClock,
  log: silentLog,
});
const issuer = await signingIssuer();
const metrics = registerIssuanceMetrics(new MetricsRegistry());
const service = new IssuingService({
  trustDomain,
  template: SpiffeIdTemplate.parse(DEFAULT_SPIFFE_ID_TEMPLATE),
  policy: () => policy,
  signingIssuer: () => issuer,
  audit,
  refusals: new RefusalLog({ audit, metrics, clock: systemClock, log: silentLog }),
  clock: systemClock,
  random: systemRandom,
  metrics,
  backdateMs: 120_000,
});
const instances: WorkloadInstance[] = Array.from({ length: 500 }, (_, i) => ({
  cluster: 'bench',
  namespace: `ns-${i % 20}`,
  serviceAccount: `sa-${i % 50}`,
  podName: `pod-${i}`,
  podUid: `00000000-0000-4000-8000-${String(i).padStart(12, '0')}`,
  nodeName: 'node-1',
  tokenExpiresAtMs: Date.now() + DAY_MS,
}));

const csrs = freshCsrs(BATCH);
const inputs = boundInputs(csrs);
const signer = boundSigner();
const stock = await stockIssuer();

/** Microseconds of CPU per step of `steps` steps done by `run`, all threads of the process counted. */
async function perStep(steps: number, run: () => void | Promise<void>): Promise<number> {
  const start = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / steps;
}

async function issueAll(): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < csrs.length) {
      const index = next++;
      const [csr, instance] = [csrs[index], instances[index % instances.length]];
      if (csr === undefined || instance === undefined) throw new TypeError('the benchmark ran out of input');
      const { signal } = new AbortController();
      const svid = await service.submit({
        api: 'kedge.v1',
        instance,
        peer: { address: '127.0.0.1' },
        csr,
        signal,
      });
      if (svid.chain.length !== 2) throw new Error('an SVID of the benchmark has no issuer with it');
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}

// Until V8 has compiled what is hot: its compiler threads are on the same account.
for (let batch = 0; batch < WARM_UP_BATCHES; batch += 1) await issueAll();
const figures = await inTurns(TURNS * Number(roundsText), {
  bound: () => perStep(BATCH, () => inputs.forEach((input) => boundStep(input, signer))),
  kedge: () => perStep(BATCH, issueAll),
  stock: () =>
    perStep(STOCK_BATCH, async () => {
      for (const csr of csrs.slice(0, STOCK_BATCH)) await stock(csr);
    }),
});
await audit.close();
rmSync(auditFolder, { recursive: true });
console.log(JSON.stringify(figures));
