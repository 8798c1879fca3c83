import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import fc from 'fast-check';
import { anchorFingerprint } from '../../../agent/ca-trust.ts';
import { CacheKeeper } from '../../../agent/cache-keeper.ts';
import {
  type CachedIdentity,
  formatCachedIdentity,
  parseCachedIdentity,
} from '../../../agent/cached-identity.ts';
import { after, msUntil } from '../../../agent/deadline.ts';
import { IdentityCache } from '../../../agent/identity-cache.ts';
import type { IssuedIdentity } from '../../../agent/identity-source.ts';
import type { IdentitySnapshot } from '../../../agent/snapshot.ts';
import { INITIAL_STATE, transition } from '../../../agent/state.ts';
import { silentLog } from '../../../host/log.ts';
import { isKedgeError, KedgeError } from '../../../pki/kedge-error.ts';
import { SpiffeId, TrustDomain } from '../../../pki/spiffe-id.ts';
import { RecordingTrust } from '../../fakes/recording-trust.ts';
import { HOUR_MS } from '../../support/certificates.ts';
import { expectCode, expectRejection } from '../../support/expect-code.ts';
import { checkProperty } from '../../support/property.ts';
import { EXAMPLE_ORG, SnapshotFactory } from '../../support/snapshots.ts';
import { suiteFolder } from '../../support/suite-folder.ts';

const NOW_MS = Date.UTC(2026, 0, 1);
const NOW = { wallMs: NOW_MS, monotonicMs: 0 };
const root = suiteFolder();
let folders = 0;
const newFolder = (): string => {
  folders += 1;
  return join(root, `cache-${folders}`);
};
const openCache = (folder: string): Promise<IdentityCache> => IdentityCache.open({ folder, allowDisk: true });

describe('the folder of the cache', () => {
  it('is made private, and so is its file', async () => {
    const folder = newFolder();
    const cache = await openCache(folder);
    await cache.save(Buffer.from('secret'));
    assert.equal(statSync(folder).mode & 0o777, 0o700);
    assert.deepEqual(readdirSync(folder), ['identity.json']);
    assert.equal(statSync(join(folder, 'identity.json')).mode & 0o777, 0o600);
    assert.deepEqual(Buffer.from((await cache.load()) ?? []).toString(), 'secret');
  });

  it('holds nothing at first, and nothing when cleared', async () => {
    const cache = await openCache(newFolder());
    assert.equal(await cache.load(), null);
    await cache.save(Buffer.from('secret'));
    await cache.clear();
    await cache.clear();
    assert.equal(await cache.load(), null);
  });

  it('is refused where others may enter it', async () => {
    for (const mode of [0o750, 0o705, 0o710]) {
      const folder = newFolder();
      mkdirSync(folder);
      chmodSync(folder, mode);
      await expectRejection('cache_unusable', openCache(folder));
    }
  });

  it('is refused where it is a symbolic link, or a file', async () => {
    const [real, link, file] = [newFolder(), newFolder(), newFolder()];
    mkdirSync(real, { mode: 0o700 });
    symlinkSync(real, link);
    writeFileSync(file, '');
    await expectRejection('cache_unusable', openCache(link));
    await expectRejection('cache_unusable', openCache(file));
  });

  it('is refused where it belongs to another', { skip: process.getuid?.() !== 0 }, async () => {
    const folder = newFolder();
    await openCache(folder);
    process.seteuid?.(65_534);
    try {
      await expectRejection('cache_unusable', openCache(folder));
    } finally {
      process.seteuid?.(0);
    }
  });

  it('is refused where it cannot be made', async () => {
    await expectRejection('cache_unusable', openCache('/proc/self/kedge'));
  });

  it('is refused on a disk, unless that is allowed', async (t) => {
    const folder = newFolder();
    mkdirSync(folder, { mode: 0o700 });
    const { type } = await statfs(folder);
    if (type === 0x01021994 || type === 0x858458f6) {
      t.skip('the temporary folder of this machine is in memory');
      return;
    }
    const error = await expectRejection('cache_unusable', IdentityCache.open({ folder, allowDisk: false }));
    assert.match(error.message, /memory-backed/);
    await IdentityCache.open({ folder, allowDisk: true });
  });

  it('is taken in memory', { skip: !existsSync('/dev/shm') }, async () => {
    const folder = `/dev/shm/kedge-test-${process.pid}`;
    const cache = await IdentityCache.open({ folder, allowDisk: false });
    await cache.clear();
  });

  it('gives no file that others could have written', async () => {
    const folder = newFolder();
    const cache = await openCache(folder);
    await cache.save(Buffer.from('secret'));
    chmodSync(join(folder, 'identity.json'), 0o660);
    await expectRejection('cache_invalid', cache.load());
    await cache.clear();
    symlinkSync('/etc/passwd', join(folder, 'identity.json'));
    await expectRejection('cache_invalid', cache.load());
  });
});

describe('a cached identity', () => {
  let factory: SnapshotFactory;
  let snapshot: IdentitySnapshot;
  let bytes: Uint8Array;
  const RENEW_AT_MS = NOW_MS + HOUR_MS / 2;
  const REMOVED = anchorFingerprint(Buffer.from('an anchor that was removed'));
  before(async () => {
    factory = await SnapshotFactory.make(NOW_MS);
    snapshot = await factory.snapshot(3);
    bytes = formatCachedIdentity(
      { bundle: snapshot.bundle, removedAnchors: [REMOVED] },
      { svid: snapshot.svid, renewAtMs: RENEW_AT_MS },
    );
  });
  const parseWhole = (input: Uint8Array = bytes, nowMs = NOW_MS, expectedId?: SpiffeId): CachedIdentity =>
    parseCachedIdentity(input, {
      trustDomain: EXAMPLE_ORG,
      expectedId,
      now: { wallMs: nowMs, monotonicMs: 0 },
      fraction: 0,
    });
  const parse = (input: Uint8Array = bytes, nowMs = NOW_MS, expectedId?: SpiffeId): IssuedIdentity => {
    const { identity } = parseWhole(input, nowMs, expectedId);
    if (identity instanceof KedgeError) throw identity;
    assert.ok(identity !== null);
    return identity;
  };
  type Document = Record<string, unknown> & { svid: Record<string, unknown> };
  const changed = (change: (document: Document) => void): Uint8Array => {
    const document = JSON.parse(Buffer.from(bytes).toString()) as Document;
    change(document);
    return Buffer.from(JSON.stringify(document));
  };

  it('reads back as it was', () => {
    const { svid, bundle, clockSkewMs } = parse();
    assert.deepEqual(svid.chain, snapshot.svid.chain);
    assert.deepEqual(svid.privateKey.expose(), snapshot.svid.privateKey.expose());
    assert.equal(bundle.sequence, 3n);
    assert.deepEqual(bundle.x509Authorities, snapshot.bundle.x509Authorities);
    assert.equal(clockSkewMs, null);
  });

  it('keeps the renewal instant that was drawn once', () => {
    assert.equal(parse().renewal.at.wallMs, RENEW_AT_MS);
    assert.equal(parse(bytes, NOW_MS + 60_000).renewal.at.wallMs, RENEW_AT_MS);
  });

  it('renews at once when its instant has passed', () => {
    const late = RENEW_AT_MS + 1_000;
    assert.equal(msUntil(parse(bytes, late).renewal.at, { wallMs: late, monotonicMs: 0 }), 0);
  });

  it('draws anew when its instant makes no sense', () => {
    const input = changed((document) => {
      document.svid['renewAtMs'] = NOW_MS + 365 * 24 * HOUR_MS;
    });
    assert.equal(parse(input).renewal.at.wallMs, NOW_MS + HOUR_MS / 2);
  });

  it('expires with its SVID', () => {
    assert.equal(parse().expiry.wallMs, snapshot.svid.notAfterMs);
  });

  const wrong: readonly { name: string; input: () => Uint8Array | Promise<Uint8Array>; nowMs?: number }[] = [
    { name: 'that has expired', input: () => bytes, nowMs: NOW_MS + HOUR_MS },
    { name: 'that is not valid yet', input: () => bytes, nowMs: NOW_MS - HOUR_MS },
    { name: 'that is empty', input: () => new Uint8Array(0) },
    { name: 'that is cut', input: () => bytes.subarray(0, bytes.length - 1) },
    { name: 'that is no object', input: () => Buffer.from('[]') },
    {
      name: 'of the version before',
      input: () => changed((document) => Object.assign(document, { version: 1 })),
    },
    {
      name: 'of a version to come',
      input: () => changed((document) => Object.assign(document, { version: 3 })),
    },
    {
      name: 'without the removed anchors',
      input: () => changed((document) => void delete document['removedAnchors']),
    },
    {
      name: 'with removed anchors that are none',
      input: () => changed((document) => Object.assign(document, { removedAnchors: ['AAAA'] })),
    },
    {
      name: 'with more removed anchors than there can be',
      input: () =>
        changed((document) => Object.assign(document, { removedAnchors: Array(257).fill(REMOVED) })),
    },
    {
      name: 'with something else than an SVID',
      input: () => changed((document) => Object.assign(document, { svid: 'none' })),
    },
    {
      name: 'of another trust domain',
      input: () => changed((document) => Object.assign(document, { trustDomain: 'evil.org' })),
    },
    {
      name: 'with the key of another SVID',
      input: async () => {
        const other = await factory.svid();
        return changed((document) =>
          Object.assign(document.svid, {
            privateKey: Buffer.from(other.privateKey.expose()).toString('base64'),
          }),
        );
      },
    },
    {
      name: 'with a bundle that does not verify its SVID',
      input: async () => {
        const stranger = await SnapshotFactory.make(NOW_MS);
        const anchor = Buffer.from(stranger.anchor.der).toString('base64');
        return changed((document) => Object.assign(document, { x509Authorities: [anchor] }));
      },
    },
    { name: 'without a key', input: () => changed((document) => void delete document.svid['privateKey']) },
    {
      name: 'with a key that is none',
      input: () => changed((document) => Object.assign(document.svid, { privateKey: 'AAAA' })),
    },
    {
      name: 'with base64 that is none',
      input: () => changed((document) => Object.assign(document.svid, { chain: ['=!'] })),
    },
    {
      name: 'with no anchors',
      input: () => changed((document) => Object.assign(document, { x509Authorities: [] })),
    },
    {
      name: 'with a sequence that is none',
      input: () => changed((document) => Object.assign(document, { sequence: '-1' })),
    },
    {
      name: 'with numbers where text belongs',
      input: () => changed((document) => Object.assign(document, { sequence: 1, trustDomain: 5 })),
    },
  ];
  for (const { name, input, nowMs } of wrong) {
    it(`${name} is not used`, async () => {
      const refused = await input();
      expectCode('cache_invalid', () => parse(refused, nowMs));
    });
  }

  it('keeps which anchors were removed, also where its SVID is of no use any more', () => {
    assert.deepEqual(parseWhole().trust.removedAnchors, [REMOVED]);
    const expired = parseWhole(bytes, NOW_MS + HOUR_MS);
    assert.ok(isKedgeError(expired.identity, 'cache_invalid'));
    assert.deepEqual(expired.trust.removedAnchors, [REMOVED]);
    assert.deepEqual(expired.trust.bundle.x509Authorities, snapshot.bundle.x509Authorities);
  });

  it('of another SPIFFE ID than is expected is not used', () => {
    expectCode('cache_invalid', () => parse(bytes, NOW_MS, SpiffeId.parse('spiffe://example.org/other')));
  });

  it('is not used by an agent of another trust domain', () => {
    const context = {
      trustDomain: TrustDomain.parse('other.org'),
      expectedId: undefined,
      now: NOW,
      fraction: 0,
    };
    expectCode('cache_invalid', () => parseCachedIdentity(bytes, context));
  });

  it('of any bytes is refused with cache_invalid, and never harms the agent', () => {
    checkProperty(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json().map((text) => Buffer.from(text)),
          fc
            .tuple(fc.nat(), fc.nat({ max: 255 }))
            .map(([at, byte]) => Buffer.from(bytes).fill(byte, at % bytes.length, (at % bytes.length) + 1)),
        ),
        (input) => {
          try {
            parse(input);
          } catch (error) {
            assert.ok(isKedgeError(error, 'cache_invalid'), String(error));
          }
        },
      ),
      300,
    );
  });

  it('is kept at the state of the agent; when that expires the key goes, and the trust stays', async () => {
    const folder = newFolder();
    const cache = await openCache(folder);
    const trust = new RecordingTrust();
    const keeper = new CacheKeeper({ cache, trust, log: silentLog });
    const context = { trustDomain: EXAMPLE_ORG, expectedId: undefined, now: NOW, fraction: 0 };
    keeper.keep(INITIAL_STATE);
    await keeper.settled();
    assert.deepEqual(readdirSync(folder), [], 'nobody to trust yet');

    trust.bootstrap = [Buffer.from('an anchor that was removed'), factory.anchor.der];
    await trust.caTrust.withAnchors(() => {});
    trust.trust(snapshot.bundle);
    const state = transition(INITIAL_STATE, { type: 'issued', ...parse() });
    keeper.keep(state);
    await keeper.settled();
    const second = new RecordingTrust();
    const restored = await new CacheKeeper({ cache, trust: second, log: silentLog }).restore(context);
    assert.deepEqual(restored?.svid.serialNumber, snapshot.svid.serialNumber);
    assert.deepEqual(second.trustMemory, trust.trustMemory);

    keeper.keep(transition(state, { type: 'time', now: after(NOW, HOUR_MS) }));
    await keeper.settled();
    const kept = readFileSync(join(folder, 'identity.json'), 'utf8');
    assert.ok(!kept.includes('privateKey'));
    const third = new RecordingTrust();
    assert.equal(await new CacheKeeper({ cache, trust: third, log: silentLog }).restore(context), null);
    assert.deepEqual(third.trustMemory?.removedAnchors, [REMOVED]);
  });

  it('whose SVID has expired is a line in the log, and whom to trust is taken up all the same', async () => {
    const cache = await openCache(newFolder());
    await cache.save(bytes);
    const lines: string[] = [];
    const log = { ...silentLog, warn: (event: string) => void lines.push(event) };
    const trust = new RecordingTrust();
    const now = { wallMs: NOW_MS + HOUR_MS, monotonicMs: 0 };
    const context = { trustDomain: EXAMPLE_ORG, expectedId: undefined, now, fraction: 0 };
    assert.equal(await new CacheKeeper({ cache, trust, log }).restore(context), null);
    assert.deepEqual(trust.trustMemory?.removedAnchors, [REMOVED]);
    assert.deepEqual(lines, ['cache.refused']);
  });

  it('that cannot be read or saved is a line in the log, and nothing else', async () => {
    const folder = newFolder();
    const lines: string[] = [];
    const log = { ...silentLog, warn: (event: string) => void lines.push(event) };
    const trust = new RecordingTrust();
    const keeper = new CacheKeeper({ cache: await openCache(folder), trust, log });
    writeFileSync(join(folder, 'identity.json'), 'rubbish', { mode: 0o600 });
    const context = { trustDomain: EXAMPLE_ORG, expectedId: undefined, now: NOW, fraction: 0 };
    assert.equal(await keeper.restore(context), null);
    chmodSync(folder, 0o700);
    const state = transition(INITIAL_STATE, { type: 'issued', ...parse() });
    const { rmSync } = await import('node:fs');
    rmSync(folder, { recursive: true });
    trust.trust(snapshot.bundle);
    keeper.keep(state);
    await keeper.settled();
    assert.deepEqual(lines, ['cache.refused', 'cache.not_saved']);
  });

  it('holds the private key, and nothing in it is printed by the agent', () => {
    assert.ok(
      Buffer.from(bytes)
        .toString()
        .includes(Buffer.from(snapshot.svid.privateKey.expose()).toString('base64')),
    );
    assert.equal(JSON.stringify(snapshot.svid.privateKey), '"[redacted]"');
    assert.ok(readFileSync(import.meta.filename, 'utf8').length > 0);
  });
});
