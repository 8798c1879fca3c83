/** The authority engine over real files: what replacing them by hand does to a fleet. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { DiskSource } from '../../../../../ca/upstream/disk/disk-source.ts';
import type { DiskMode } from '../../../../../ca/upstream/disk/disk-settings.ts';
import { DiskUpstream } from '../../../../../ca/upstream/disk/disk-upstream.ts';
import { systemRandom } from '../../../../../host/random.ts';
import { toHex } from '../../../../../pki/bytes.ts';
import { parseCertificate } from '../../../../../pki/certificate.ts';
import {
  RecordingLog,
  type Replica,
  TestTrustDomain,
  trustDomain,
  until,
} from '../../../../support/authority-replica.ts';
import { ext, makeIssuer, type TestCa } from '../../../../support/certificates.ts';
import { coverageOfAll } from '../../../../support/coverage.ts';
import { temporaryFolder } from '../../../../support/temporary-folder.ts';
import { makeHierarchy, UpstreamFiles } from '../../../../support/upstream-files.ts';

const DAY = 86_400_000;
const LOOK_MS = 2_000;

const idOf = ({ der }: TestCa): string => toHex(parseCertificate(der).subjectKeyId ?? new Uint8Array());

/** A CA on files, and a fleet of one that holds what is said. */
async function setUp(t: TestContext, mode: DiskMode) {
  const domain = new TestTrustDomain(t);
  const { clock } = domain;
  const files = new UpstreamFiles(temporaryFolder(t), { mode });
  const validity = { notBeforeMs: clock.now() - DAY, notAfterMs: clock.now() + 1_000 * DAY };
  const hierarchy = () => makeHierarchy({ root: validity, intermediate: validity });
  const first = await hierarchy();
  files.writePair(first.intermediate, first.root);
  const source = new DiskSource({ settings: files.settings, trustDomain, clock, log: new RecordingLog() });
  const replica = domain.replica();
  const upstream = new DiskUpstream({
    settings: files.settings,
    source,
    trustDomain,
    keys: replica.keys,
    clock,
    random: systemRandom,
  });
  const { keys } = replica;
  const started = domain.replica({ upstream, keys });
  started.coverage = coverageOfAll();
  await domain.start(started);

  const holds = async (bundleSequence: number, authorityKeyId: string): Promise<void> => {
    const svidNotAfterMs = clock.now() + DAY;
    started.coverage = coverageOfAll({ id: '1', bundleSequence, authorityKeyId, svidNotAfterMs });
    await clock.advance(2_000);
  };
  await holds(1, signerOf(started));
  /** Until the files were looked at often enough, and what follows from them has happened. */
  const looked = async (condition: () => boolean): Promise<void> => {
    for (let looks = 0; !condition(); looks += 1) {
      assert.ok(looks < 200, 'it never came to pass');
      await clock.advance(LOOK_MS);
    }
  };
  return { domain, files, source, validity, hierarchy, first, replica: started, holds, looked };
}

const signerOf = ({ engine }: Replica): string => engine.signingIssuer()?.issuer.id ?? '';
const anchorsOf = ({ engine }: Replica): readonly string[] =>
  engine.current().state.anchors.map(({ id, phase }) => `${id} ${phase}`);

describe('a CA whose issuer is in files', () => {
  it('signs with it, and with the next one under the same root as soon as the files have it', async (t) => {
    const { files, validity, first, replica, looked } = await setUp(t, 'issuer');
    assert.equal(signerOf(replica), idOf(first.intermediate));
    const next = await makeIssuer(first.root, { ...validity, extensions: { san: null } });
    files.writePair(next, first.root);
    await looked(() => signerOf(replica) === idOf(next));
    assert.deepEqual(anchorsOf(replica), [`${idOf(first.root)} active`]);
    assert.equal(replica.engine.current().bundle.sequence, 1);
  });

  it('holds one under another root back until every instance has that root in its bundle', async (t) => {
    const { domain, files, hierarchy, first, replica, holds, looked } = await setUp(t, 'issuer');
    const next = await hierarchy();
    files.writePair(next.intermediate, next.root);
    await looked(() => replica.engine.current().bundle.sequence === 2);
    await domain.clock.advance(600_000);
    assert.equal(signerOf(replica), idOf(first.intermediate));
    assert.deepEqual(anchorsOf(replica), [`${idOf(first.root)} active`, `${idOf(next.root)} prepared`]);
    assert.match(replica.engine.health().reason, /waiting for 1 of 1 instances to acknowledge bundle 2/);

    await holds(2, idOf(first.intermediate));
    await until(() => signerOf(replica) === idOf(next.intermediate));
    await holds(2, idOf(next.intermediate));
    await looked(() => replica.engine.current().bundle.sequence === 3);
    assert.deepEqual(anchorsOf(replica), [`${idOf(next.root)} active`]);
  });

  it('signs on with the one before when the new files are bad, and says why', async (t) => {
    const { files, validity, first, replica, looked } = await setUp(t, 'issuer');
    const bad = await makeIssuer(first.root, {
      ...validity,
      extensions: { basicConstraints: ext.basicConstraints(false) },
    });
    files.writePair(bad, first.root);
    await looked(() => replica.engine.health().degraded);
    assert.match(replica.engine.health().reason, /new files were not taken: the CA of the key is not a CA/);
    assert.equal(signerOf(replica), idOf(first.intermediate));
  });
});

describe('a CA whose issuers a CA in files signs', () => {
  it('replaces its issuer under the root that the fleet has, when only the CA in between is new', async (t) => {
    const { domain, files, source, validity, first, replica, looked } = await setUp(t, 'intermediate');
    const before = signerOf(replica);
    const next = await makeIssuer(first.root, { ...validity, extensions: { san: null } });
    files.writePair(next, first.root);
    await looked(() => source.generation === 2);
    assert.equal(signerOf(replica), before);
    await domain.pass(20 * DAY + 10_000);
    await until(() => signerOf(replica) !== before);
    const { intermediates } = replica.engine.signingIssuer()!.issuer;
    assert.deepEqual(intermediates, [next.der]);
  });

  it('does not sign under another root before the fleet has followed', async (t) => {
    const { domain, files, hierarchy, first, replica, holds, looked } = await setUp(t, 'intermediate');
    const before = signerOf(replica);
    const next = await hierarchy();
    files.writePair(next.intermediate, next.root);
    await looked(() => replica.engine.current().bundle.sequence === 2);
    await domain.clock.advance(600_000);
    assert.equal(signerOf(replica), before);
    await holds(2, before);
    await until(() => signerOf(replica) !== before);
    assert.equal(replica.engine.signingIssuer()?.issuer.anchorId, idOf(next.root));
    assert.deepEqual(anchorsOf(replica), [`${idOf(first.root)} retired`, `${idOf(next.root)} active`]);
  });
});
