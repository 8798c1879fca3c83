import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { FilesFeed, type FilesFeedOptions } from '../../../../agent/feed/files-feed.ts';
import { FILES_PRESET_NAMES, isSecret, presetOf } from '../../../../agent/feed/files-preset.ts';
import { heldSnapshot, type IdentitySnapshot } from '../../../../agent/snapshot.ts';
import { systemClock } from '../../../../host/clock.ts';
import { silentLog } from '../../../../host/log.ts';
import { parseBundleDocument } from '../../../../pki/bundle-document.ts';
import { decodePem } from '../../../../pki/pem.ts';
import { feedConformance } from '../../../conformance/feed.ts';
import { HOUR_MS } from '../../../support/certificates.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { SnapshotFactory } from '../../../support/snapshots.ts';
import { suiteFolder } from '../../../support/suite-folder.ts';

/** The files of the preset `plain`. */
const FILE_NAMES = {
  chain: 'tls.crt',
  key: 'tls.key',
  authorities: 'ca.crt',
  credentialBundle: 'credential-bundle.pem',
  bundleDocument: 'bundle.json',
  crls: 'crl.pem',
} as const;
const signal = new AbortController().signal;
const root = suiteFolder();
let folders = 0;
const newFolder = (): string => {
  folders += 1;
  return join(root, `files-${folders}`);
};
const open = (folder: string, options: Partial<FilesFeedOptions> = {}): Promise<FilesFeed> =>
  FilesFeed.open({
    folder,
    preset: 'plain',
    keyFormat: 'pkcs8',
    keyMode: 0o600,
    bundleDocument: false,
    clock: systemClock,
    log: silentLog,
    onConsumersChange: () => {},
    ...options,
  });
const read = (folder: string, name: string): string => readFileSync(join(folder, name), 'utf8');
const serialIn = (folder: string): string =>
  new X509Certificate(read(folder, FILE_NAMES.chain)).serialNumber.toLowerCase();

feedConformance('the files', async () => {
  const folder = newFolder();
  return {
    feed: await open(folder),
    servedSerial: () => Promise.resolve(existsSync(join(folder, FILE_NAMES.chain)) ? serialIn(folder) : null),
    isConsistent() {
      const leaf = new X509Certificate(read(folder, FILE_NAMES.chain));
      const key = createPrivateKey(read(folder, FILE_NAMES.key));
      return Promise.resolve(leaf.checkPrivateKey(key));
    },
  };
});

describe('the files feed', () => {
  let factory: SnapshotFactory;
  let first: IdentitySnapshot;
  let second: IdentitySnapshot;
  before(async () => {
    factory = await SnapshotFactory.make(Date.now());
    [first, second] = [await factory.snapshot(1), await factory.snapshot(2)];
  });

  it('writes chain, key, anchors and the credential bundle as PEM', async () => {
    const folder = newFolder();
    await (await open(folder)).publish(first, signal);
    const chain = decodePem(read(folder, FILE_NAMES.chain), 'CERTIFICATE');
    assert.deepEqual(chain, first.svid.chain);
    const key = decodePem(read(folder, FILE_NAMES.key), 'PRIVATE KEY');
    assert.deepEqual(key, [Uint8Array.from(first.svid.privateKey.expose())]);
    assert.deepEqual(
      decodePem(read(folder, FILE_NAMES.authorities), 'CERTIFICATE'),
      first.bundle.x509Authorities,
    );
    assert.equal(
      read(folder, FILE_NAMES.credentialBundle),
      read(folder, FILE_NAMES.key) + read(folder, FILE_NAMES.chain),
    );
    assert.ok(!existsSync(join(folder, FILE_NAMES.bundleDocument)));
    assert.ok(!existsSync(join(folder, FILE_NAMES.crls)));
  });

  it('writes a SPIFFE bundle document where asked to', async () => {
    const folder = newFolder();
    await (await open(folder, { bundleDocument: true })).publish(first, signal);
    const document = parseBundleDocument(readFileSync(join(folder, FILE_NAMES.bundleDocument)));
    assert.equal(document.sequence, first.bundle.sequence);
    assert.equal(document.refreshHintSeconds, 300);
    assert.deepEqual(document.x509Authorities, first.bundle.x509Authorities);
  });

  it('keeps keys to itself: 0600, or as told; everything else may be read', async () => {
    const mode = (folder: string, name: string): number => statSync(join(folder, name)).mode & 0o777;
    const [strict, wide] = [newFolder(), newFolder()];
    await (await open(strict)).publish(first, signal);
    await (await open(wide, { keyMode: 0o640 })).publish(first, signal);
    assert.equal(mode(strict, FILE_NAMES.key), 0o600);
    assert.equal(mode(strict, FILE_NAMES.credentialBundle), 0o600);
    assert.equal(mode(wide, FILE_NAMES.key), 0o640);
    assert.equal(mode(wide, FILE_NAMES.credentialBundle), 0o640);
    assert.equal(mode(strict, FILE_NAMES.chain), 0o644);
    assert.equal(mode(strict, FILE_NAMES.authorities), 0o644);
  });

  it('gives the files to the owner named', { skip: process.getuid?.() !== 0 }, async () => {
    const folder = newFolder();
    await (await open(folder, { owner: { uid: 65_534, gid: 65_533 } })).publish(first, signal);
    for (const name of [FILE_NAMES.key, FILE_NAMES.chain, '..data']) {
      const { uid, gid } = statSync(join(folder, name));
      assert.deepEqual({ uid, gid }, { uid: 65_534, gid: 65_533 }, name);
    }
  });

  it('changes all files at once, by one rename: each stable name leads through ..data', async () => {
    const folder = newFolder();
    const feed = await open(folder);
    await feed.publish(first, signal);
    const before = readlinkSync(join(folder, '..data'));
    for (const name of [
      FILE_NAMES.chain,
      FILE_NAMES.key,
      FILE_NAMES.authorities,
      FILE_NAMES.credentialBundle,
    ]) {
      assert.equal(readlinkSync(join(folder, name)), `..data/${name}`);
    }
    await feed.publish(second, signal);
    assert.notEqual(readlinkSync(join(folder, '..data')), before);
    assert.equal(readlinkSync(join(folder, FILE_NAMES.key)), `..data/${FILE_NAMES.key}`);
  });

  it('never lets a reader of one version see a key without its certificate, through many rotations', async () => {
    const folder = newFolder();
    const feed = await open(folder);
    await feed.publish(first, signal);
    const over = new AbortController();
    let reads = 0;
    const reading = (async () => {
      while (!over.signal.aborted) {
        // One open, one file: the credential bundle. Its two halves always belong together.
        const text = read(folder, FILE_NAMES.credentialBundle);
        assert.ok(
          new X509Certificate(text.slice(text.indexOf('-----BEGIN CERT'))).checkPrivateKey(
            createPrivateKey(text),
          ),
        );
        reads += 1;
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    for (let i = 0; i < 20; i += 1) await feed.publish(i % 2 === 0 ? second : first, signal);
    over.abort();
    await reading;
    assert.ok(reads > 20);
  });

  it('leaves one version behind, and nothing of a crash', async () => {
    const folder = newFolder();
    const feed = await open(folder);
    await feed.publish(first, signal);
    // A crash may leave a version that nothing names, half written, and the link that was to name it.
    mkdirSync(join(folder, '..2020_01_01_00_00_00.deadbeef'));
    writeFileSync(join(folder, '..2020_01_01_00_00_00.deadbeef', 'tls.key'), 'half');
    symlinkSync('..2020_01_01_00_00_00.deadbeef', join(folder, '..data_tmp'));
    await feed.publish(second, signal);
    const versions = readdirSync(folder).filter((name) => name.startsWith('..2'));
    assert.deepEqual(versions, [readlinkSync(join(folder, '..data'))]);
    assert.ok(!existsSync(join(folder, '..data_tmp')));
    assert.equal(serialIn(folder), Buffer.from(second.svid.serialNumber).toString('hex'));
  });

  it('removes everything of its own when it withdraws, and nothing else', async () => {
    const folder = newFolder();
    const feed = await open(folder);
    await feed.publish(first, signal);
    writeFileSync(join(folder, 'notes.txt'), 'mine');
    await feed.withdraw();
    assert.deepEqual(readdirSync(folder), ['notes.txt']);
  });

  it('leaves the files where they are when it closes: the proxy lives on them', async () => {
    const folder = newFolder();
    const feed = await open(folder);
    await feed.publish(first, signal);
    await feed.close();
    assert.equal(serialIn(folder), Buffer.from(first.svid.serialNumber).toString('hex'));
  });

  it('refuses a folder where a file of another has one of its names, and leaves that alone', async () => {
    const folder = newFolder();
    mkdirSync(folder);
    writeFileSync(join(folder, FILE_NAMES.key), 'precious');
    const feed = await open(folder);
    await expectRejection('file_unwritable', feed.publish(first, signal));
    await feed.withdraw();
    assert.equal(read(folder, FILE_NAMES.key), 'precious');
  });

  it('keeps the version before when the next cannot be written', async () => {
    const folder = newFolder();
    const feed = await open(folder);
    await feed.publish(first, signal);
    writeFileSync(join(folder, FILE_NAMES.bundleDocument), 'in the way');
    await expectRejection('file_unwritable', feed.publish(second, signal));
    assert.equal(serialIn(folder), Buffer.from(first.svid.serialNumber).toString('hex'));
  });

  for (const folder of ['/proc/self/kedge', '/dev/null/kedge']) {
    it(`says that ${folder} cannot be written`, async () => {
      const feed = await open(folder);
      await expectRejection('file_unwritable', feed.publish(first, signal));
    });
  }

  it('drops the CRL file when there are no CRLs any more', async () => {
    const folder = newFolder();
    const feed = await open(folder);
    const withCrl = { ...first, bundle: { ...first.bundle, crls: [Uint8Array.of(0x30, 0)] } };
    await feed.publish(withCrl, signal);
    assert.equal(decodePem(read(folder, FILE_NAMES.crls), 'X509 CRL').length, 1);
    await feed.publish(second, signal);
    assert.ok(!readdirSync(folder).includes(FILE_NAMES.crls));
  });

  for (const preset of FILES_PRESET_NAMES) {
    it(`writes exactly the files of the preset ${preset}, the key with its own mode, and takes them all back`, async () => {
      const folder = newFolder();
      const feed = await open(folder, { preset, keyMode: 0o640 });
      await feed.publish(first, signal);
      const { files } = presetOf(preset);
      const names = readdirSync(folder).filter((name) => !name.startsWith('..'));
      const want = files.filter(({ content }) => content !== 'crls').map(({ name }) => name);
      assert.deepEqual(names, want.toSorted());
      for (const { name, content } of files.filter(({ name: file }) => names.includes(file))) {
        assert.equal(statSync(join(folder, name)).mode & 0o777, isSecret(content) ? 0o640 : 0o644, name);
      }
      await feed.withdraw();
      assert.deepEqual(readdirSync(folder), []);
    });

    it(`knows when the files of ${preset} expire that an earlier agent left`, async () => {
      const folder = newFolder();
      await (await open(folder, { preset })).publish(first, signal);
      await (await open(folder)).close();
      assert.ok(readdirSync(folder).length > 0, 'good ones stay');
      await open(folder, { clock: new ManualClock(Date.now() + 2 * HOUR_MS) });
      assert.deepEqual(readdirSync(folder), []);
    });
  }

  it('removes the names of another preset once it has written its own', async () => {
    const folder = newFolder();
    await (await open(folder, { preset: 'postgresql' })).publish(first, signal);
    await (await open(folder, { preset: 'haproxy' })).publish(second, signal);
    const names = readdirSync(folder).filter((name) => !name.startsWith('..'));
    assert.deepEqual(names, ['ca.crt', 'haproxy.pem']);
  });

  describe('with a hook', () => {
    const sh = (script: string, timeoutMs = 10_000): Partial<FilesFeedOptions> => ({
      hook: { type: 'command', argv: ['/bin/sh', '-c', script], timeoutMs },
    });

    it('tells it after the files have changed, and its exit 0 says that they are loaded', async () => {
      const folder = newFolder();
      const seen = join(root, 'seen.crt');
      const feed = await open(folder, sh(`cp "$KEDGE_FILES_FOLDER/tls.crt" ${seen}`));
      await feed.publish(first, signal);
      const held = heldSnapshot(first);
      assert.deepEqual(feed.consumers(), [
        { name: 'sh', best: 'loaded', delivered: held, loaded: held, errorCode: null },
      ]);
      assert.equal(readFileSync(seen, 'utf8'), read(folder, FILE_NAMES.chain));
    });

    it('leaves the files in place when it fails, and runs it alone when tried again', async () => {
      const folder = newFolder();
      const marker = join(root, 'ready');
      const feed = await open(folder, sh(`test -e ${marker}`));
      await expectRejection('hook_failed', feed.publish(first, signal));
      const [refused] = feed.consumers();
      assert.deepEqual(
        [refused?.delivered?.generation, refused?.loaded, refused?.errorCode],
        [1, null, 'hook_failed'],
      );
      const version = readlinkSync(join(folder, '..data'));
      writeFileSync(marker, '');
      await feed.publish(first, signal);
      const [loaded] = feed.consumers();
      assert.deepEqual([loaded?.loaded?.generation, loaded?.errorCode], [1, null]);
      assert.equal(readlinkSync(join(folder, '..data')), version);
    });

    it('keeps the version before until the hook is done with it', async () => {
      const folder = newFolder();
      const feed = await open(
        folder,
        sh('ls -d "$KEDGE_FILES_FOLDER"/..2* | wc -l > "$KEDGE_FILES_FOLDER/count"'),
      );
      await feed.publish(first, signal);
      await feed.publish(second, signal);
      assert.equal(read(folder, 'count').trim(), '2');
      assert.equal(readdirSync(folder).filter((name) => name.startsWith('..2')).length, 1);
    });
  });

  describe('over files that an earlier agent left', () => {
    it('leaves them to the proxy while they are good', async () => {
      const folder = newFolder();
      const earlier = await open(folder);
      await earlier.publish(first, signal);
      await earlier.close();
      const feed = await open(folder);
      assert.equal(serialIn(folder), Buffer.from(first.svid.serialNumber).toString('hex'));
      await feed.close();
    });

    it('removes them when they expire and no new ones have come', async () => {
      const folder = newFolder();
      await (await open(folder)).publish(first, signal);
      const clock = new ManualClock(Date.now());
      await open(folder, { clock });
      await clock.advance(HOUR_MS - 60_000);
      assert.ok(existsSync(join(folder, FILE_NAMES.chain)));
      await clock.advance(120_000);
      while (existsSync(join(folder, '..data'))) await clock.advance(1);
    });

    it('removes them at once when they have expired already', async () => {
      const folder = newFolder();
      await (await open(folder)).publish(first, signal);
      await open(folder, { clock: new ManualClock(Date.now() + 2 * HOUR_MS) });
      assert.deepEqual(readdirSync(folder), []);
    });

    it('tries again until they are gone', async () => {
      const folder = newFolder();
      // A folder where the link should be: it cannot be removed as the link can.
      mkdirSync(join(folder, '..data'), { recursive: true });
      writeFileSync(join(folder, '..data', FILE_NAMES.chain), 'rubbish');
      symlinkSync(join('..data', FILE_NAMES.chain), join(folder, FILE_NAMES.chain));
      const clock = new ManualClock(Date.now());
      const feed = await open(folder, { clock });
      await clock.advance(5_000);
      assert.ok(existsSync(join(folder, FILE_NAMES.chain)));
      rmSync(join(folder, '..data'), { recursive: true });
      while (readdirSync(folder).length > 0) await clock.advance(1_000);
      await feed.close();
    });

    for (const [what, text] of [
      ['is rubbish', 'rubbish'],
      ['is empty', ''],
      ['is cut off', '17'],
      ['is longer than a time can be', '1'.repeat(64)],
    ] as const) {
      it(`removes them at once when what says how long they are good ${what}`, async () => {
        const folder = newFolder();
        await (await open(folder)).publish(first, signal);
        writeFileSync(join(folder, '..data', '.not-after'), text);
        await open(folder);
        assert.deepEqual(readdirSync(folder), []);
      });
    }

    it('says to everybody how long they are good: the key may be readable by another user alone', async () => {
      const folder = newFolder();
      await (await open(folder)).publish(first, signal);
      const path = join(folder, '..data', '.not-after');
      assert.equal(readFileSync(path, 'utf8'), `${first.svid.notAfterMs}\n`);
      assert.equal(statSync(path).mode & 0o777, 0o644);
    });

    it('never takes away what is published in the moment in which they expire', async () => {
      for (let i = 0; i < 20; i += 1) {
        const folder = newFolder();
        await (await open(folder)).publish(first, signal);
        const clock = new ManualClock(first.svid.notAfterMs - 1);
        const feed = await open(folder, { clock });
        // Neither waits for the other: the removal is asked for before, beside or after the publication.
        const expiring = clock.advance(i % 3);
        await feed.publish(second, signal);
        await expiring;
        assert.equal(serialIn(folder), Buffer.from(second.svid.serialNumber).toString('hex'));
        await feed.close();
      }
    });

    it('lets go of the watch over them with the first publication', async () => {
      const folder = newFolder();
      await (await open(folder)).publish(first, signal);
      const clock = new ManualClock(Date.now());
      const feed = await open(folder, { clock });
      await feed.publish(second, signal);
      await clock.advance(2 * HOUR_MS);
      assert.ok(lstatSync(join(folder, '..data')).isSymbolicLink());
    });
  });
});
