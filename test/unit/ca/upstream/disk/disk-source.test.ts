import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { DiskSource } from '../../../../../ca/upstream/disk/disk-source.ts';
import type { DiskSettings } from '../../../../../ca/upstream/disk/disk-settings.ts';
import type { ErrorCode } from '../../../../../pki/error-table.ts';
import { encodePem } from '../../../../../pki/pem.ts';
import { TrustDomain } from '../../../../../pki/spiffe-id.ts';
import { x509 } from '../../../../../pki/x509-library.ts';
import { RecordingLog } from '../../../../support/authority-replica.ts';
import {
  type Deviation,
  ext,
  HOUR_MS,
  makeAnchor,
  makeIssuer,
  newSigner,
  NOW_MS,
  type TestCa,
} from '../../../../support/certificates.ts';
import { expectRejection } from '../../../../support/expect-code.ts';
import { ManualClock } from '../../../../support/manual-clock.ts';
import { temporaryFolder } from '../../../../support/temporary-folder.ts';
import { keyPem, makeHierarchy, pemOf, UpstreamFiles } from '../../../../support/upstream-files.ts';

/** The names of `extra` settings are files in the folder. */
function setUp(t: TestContext, settings: Partial<DiskSettings> = {}, extra: Record<string, string> = {}) {
  const folder = temporaryFolder(t);
  const named = Object.entries(extra).map(([key, name]) => [key, join(folder, name)]);
  const files = new UpstreamFiles(folder, { ...settings, ...Object.fromEntries(named) });
  const log = new RecordingLog();
  const clock = new ManualClock(NOW_MS);
  const trustDomain = TrustDomain.parse('example.org');
  const source = new DiskSource({ settings: files.settings, trustDomain, clock, log });
  const twoLooks = async (): Promise<void> => {
    await source.check();
    await source.check();
  };
  const rootNow = async (): Promise<Uint8Array> => (await source.material()).paths[0].at(-1)!.der;
  return { files, log, clock, source, twoLooks, rootNow };
}

describe('the files of a disk upstream', () => {
  it('are taken as they are at first, and again when they change, at the second look that shows it', async (t) => {
    const { files, source, rootNow } = setUp(t);
    const [a, b] = [await makeHierarchy(), await makeHierarchy()];
    files.writePair(a.intermediate, a.root);
    assert.deepEqual(await rootNow(), a.root.der);
    files.writePair(b.intermediate, b.root);
    await source.check();
    assert.deepEqual(await rootNow(), a.root.der);
    await source.check();
    assert.deepEqual(await rootNow(), b.root.der);
    assert.equal(source.problem(), null);
    assert.equal(source.generation, 2);
  });

  it('are followed through the symlink swap of a Kubernetes volume', async (t) => {
    const { files, twoLooks, rootNow } = setUp(t);
    const contents = ({ intermediate, root }: Awaited<ReturnType<typeof makeHierarchy>>) => ({
      'tls.crt': pemOf(root, intermediate),
      'tls.key': keyPem(intermediate.signer.privateKey),
    });
    const [a, b] = [await makeHierarchy(), await makeHierarchy()];
    files.swap(contents(a));
    assert.deepEqual(await rootNow(), a.root.der);
    files.swap(contents(b));
    await twoLooks();
    assert.deepEqual(await rootNow(), b.root.der);
  });

  it('are not paired across generations: a new certificate waits for its key', async (t) => {
    const { files, source, twoLooks, rootNow } = setUp(t);
    const [a, b] = [await makeHierarchy(), await makeHierarchy()];
    files.writePair(a.intermediate, a.root);
    await rootNow();
    files.write({ 'tls.crt': pemOf(b.intermediate, b.root) });
    await twoLooks();
    assert.deepEqual(await rootNow(), a.root.der);
    assert.match(source.problem() ?? '', /^new files were not taken: the private key .* is of none of/);
    files.write({ 'tls.key': keyPem(b.intermediate.signer.privateKey) });
    await twoLooks();
    assert.deepEqual(await rootNow(), b.root.der);
    assert.equal(source.problem(), null);
  });

  it('are read once for all who ask at the same time', async (t) => {
    const { files, log, source } = setUp(t);
    const { root, intermediate } = await makeHierarchy();
    files.writePair(intermediate, root);
    const all = await Promise.all([source.material(), source.material(), source.check(), source.material()]);
    assert.equal(log.of('upstream_files.loaded').length, 1);
    assert.equal(all[0], all[1]);
  });

  it('are complained of once, however often they are looked at', async (t) => {
    const { files, log, source, twoLooks } = setUp(t);
    const { root, intermediate } = await makeHierarchy();
    files.writePair(intermediate, root);
    await source.material();
    files.write({ 'tls.key': 'nothing' });
    for (let i = 0; i < 5; i += 1) await twoLooks();
    assert.equal(log.of('upstream_files.refused').length, 1);
  });

  it('are taken without a change once a certificate becomes valid', async (t) => {
    const { files, clock, source, twoLooks, rootNow } = setUp(t);
    const later = NOW_MS + HOUR_MS;
    const { root, intermediate } = await makeHierarchy({ intermediate: { notBeforeMs: later } });
    files.writePair(intermediate, root);
    await expectRejection('disk_certificate_not_yet_valid', source.material());
    await clock.advance(HOUR_MS);
    await twoLooks();
    assert.deepEqual(await rootNow(), root.der);
  });

  it('take an encrypted key with its passphrase file, and roots of a file of their own', async (t) => {
    const { files, source, rootNow } = setUp(t, {}, { passphraseFile: 'pass', anchorsFile: 'ca.crt' });
    const { root, intermediate } = await makeHierarchy();
    const { privateKey } = intermediate.signer;
    files.write({
      'tls.crt': pemOf(intermediate),
      'ca.crt': pemOf(await makeAnchor(), root),
      'tls.key': privateKey.export({
        format: 'pem',
        type: 'pkcs8',
        cipher: 'aes-256-cbc',
        passphrase: 'secret',
      }),
      pass: 'secret\n',
    });
    assert.deepEqual(await rootNow(), root.der);
    assert.equal(source.problem(), null);
  });

  it('warn of a private key that every user of the machine can read, and are used', async (t) => {
    const { files, log, source, rootNow } = setUp(t);
    const { root, intermediate } = await makeHierarchy();
    files.writePair(intermediate, root);
    chmodSync(files.settings.keyFile, 0o644);
    assert.deepEqual(await rootNow(), root.der);
    assert.match(source.problem() ?? '', /open to every user of the machine \(mode 0644\)/);
    assert.equal(log.of('upstream_files.key_exposed').length, 1);
  });

  const { digitalSignature, keyCertSign } = x509.KeyUsageFlags;
  const asCa = (intermediate: Deviation) => async (files: UpstreamFiles) => {
    const made = await makeHierarchy({ intermediate });
    files.writePair(made.intermediate, made.root);
  };
  const asRoot = (root: Deviation) => async (files: UpstreamFiles) => {
    const made = await makeHierarchy({ root });
    files.writePair(made.intermediate, made.root);
  };
  const replaced =
    (name: string, content: (pair: { root: TestCa; intermediate: TestCa }) => string) =>
    async (files: UpstreamFiles) => {
      const made = await makeHierarchy();
      files.writePair(made.intermediate, made.root);
      files.write({ [name]: content(made) });
    };

  const BAD: readonly {
    name: string;
    code: ErrorCode;
    write: (files: UpstreamFiles) => Promise<void>;
    settings?: Partial<DiskSettings>;
  }[] = [
    {
      name: 'no certificate file',
      code: 'disk_file_missing',
      write: async (files) => rmSync(files.settings.certificateFile),
    },
    {
      name: 'no key file',
      code: 'disk_file_missing',
      write: async (files) => rmSync(files.settings.keyFile),
    },
    {
      name: 'a folder in place of the key',
      code: 'disk_file_invalid',
      write: async (files) => {
        rmSync(files.settings.keyFile);
        mkdirSync(files.settings.keyFile);
      },
    },
    {
      name: 'a link that leads to itself',
      code: 'disk_file_symlink_loop',
      write: async (files) => {
        rmSync(files.settings.keyFile);
        symlinkSync('tls.key', files.settings.keyFile);
      },
    },
    { name: 'a huge file', code: 'disk_file_invalid', write: replaced('tls.crt', () => 'x'.repeat(300_000)) },
    { name: 'an empty file', code: 'disk_pem_missing', write: replaced('tls.crt', () => '') },
    { name: 'DER', code: 'disk_pem_missing', write: replaced('tls.crt', () => '0\u0082\0\0') },
    {
      name: 'a certificate that is cut off',
      code: 'disk_file_truncated',
      write: replaced('tls.crt', ({ root, intermediate }) => pemOf(root, intermediate).slice(0, -100)),
    },
    {
      name: 'a certificate with a byte too many',
      code: 'disk_certificate_malformed',
      write: replaced('tls.crt', ({ root }) =>
        encodePem('CERTIFICATE', Buffer.concat([root.der, Buffer.of(0)])),
      ),
    },
    {
      name: 'key and certificate swapped',
      code: 'disk_files_swapped',
      write: async (files) => {
        const { root, intermediate } = await makeHierarchy();
        files.write({
          'tls.key': pemOf(intermediate, root),
          'tls.crt': keyPem(intermediate.signer.privateKey),
        });
      },
    },
    {
      name: 'the key of another certificate',
      code: 'disk_key_mismatch',
      write: replaced('tls.key', () => keyPem(newSigner().privateKey)),
    },
    {
      name: 'a key on a curve that is not used',
      code: 'disk_key_unsupported',
      write: replaced('tls.key', () => keyPem(newSigner('ed25519').privateKey)),
    },
    {
      name: 'an encrypted key and no passphrase',
      code: 'disk_passphrase_missing',
      write: replaced('tls.key', ({ root }) =>
        String(
          root.signer.privateKey.export({
            format: 'pem',
            type: 'pkcs8',
            cipher: 'aes-256-cbc',
            passphrase: 'x',
          }),
        ),
      ),
    },
    {
      name: 'no root',
      code: 'disk_chain_incomplete',
      write: replaced('tls.crt', ({ intermediate }) => pemOf(intermediate)),
    },
    {
      name: 'a certificate that is no CA',
      code: 'disk_certificate_not_ca',
      write: asCa({ extensions: { basicConstraints: ext.basicConstraints(false) } }),
    },
    {
      name: 'a CA that may not sign certificates',
      code: 'disk_certificate_key_usage',
      write: asCa({ extensions: { keyUsage: ext.keyUsage(digitalSignature) } }),
    },
    {
      name: 'a CA with no room for an issuer',
      code: 'disk_certificate_path_length',
      write: asCa({ extensions: { basicConstraints: ext.basicConstraints(true, 0) } }),
    },
    {
      name: 'a root with no room for both',
      code: 'disk_certificate_path_length',
      write: asRoot({ extensions: { basicConstraints: ext.basicConstraints(true, 1) } }),
    },
    {
      name: 'a CA of another trust domain',
      code: 'disk_certificate_trust_domain',
      write: asCa({ extensions: { san: ext.uris('spiffe://other.example') } }),
    },
    {
      name: 'a CA that has expired',
      code: 'disk_certificate_expired',
      write: asCa({ notAfterMs: NOW_MS - 1_000 }),
    },
    {
      name: 'a root that has expired',
      code: 'disk_certificate_expired',
      write: asRoot({ notAfterMs: NOW_MS - 1_000 }),
    },
    {
      name: 'a CA that is not valid yet',
      code: 'disk_certificate_not_yet_valid',
      write: asCa({ notBeforeMs: NOW_MS + HOUR_MS }),
    },
    {
      name: 'a critical extension that nobody knows',
      code: 'authority_unusable',
      write: asCa({ extensions: { odd: ext.unknown(true) } }),
    },
    {
      name: 'a root as the issuer itself',
      code: 'disk_certificate_path_length',
      settings: { mode: 'issuer' },
      write: async (files) => files.writePair(await makeAnchor()),
    },
    {
      name: 'an issuer that cannot revoke',
      code: 'disk_certificate_key_usage',
      settings: { mode: 'issuer' },
      write: asCa({ extensions: { keyUsage: ext.keyUsage(keyCertSign) } }),
    },
    {
      name: 'an issuer with an RSA key that the key manager does not hold',
      code: 'disk_key_unsupported',
      settings: { mode: 'issuer' },
      write: async (files) => {
        const root = await makeAnchor();
        files.writePair(await makeIssuer(root, { signer: newSigner('rsa-2048') }), root);
      },
    },
  ];
  for (const { name, code, write, settings } of BAD) {
    it(`are refused with ${name}: those before them serve on, and the reason is shown`, async (t) => {
      const { files, source, log, twoLooks } = setUp(t, settings);
      const good = await makeHierarchy();
      files.writePair(good.intermediate, good.root);
      const before = await source.material();
      await write(files);
      await twoLooks();
      assert.equal(await source.material(), before);
      const [refused] = log.of('upstream_files.refused');
      assert.equal((refused!['error'] as { code?: string }).code, code);
      assert.match(source.problem() ?? '', /^new files were not taken: .*\(.*\)$/);
    });

    it(`are refused at the start with ${name}`, async (t) => {
      const { files, source } = setUp(t, settings);
      const good = await makeHierarchy();
      files.writePair(good.intermediate, good.root);
      await write(files);
      const error = await expectRejection(code, source.material());
      assert.notEqual(error.hint, undefined);
    });
  }

  const skip = process.geteuid?.() === 0 ? 'root may read every file' : false;
  it('are refused with a key that the CA may not read', { skip }, async (t) => {
    const { files, source } = setUp(t);
    const { root, intermediate } = await makeHierarchy();
    files.writePair(intermediate, root);
    chmodSync(files.settings.keyFile, 0);
    await expectRejection('disk_file_forbidden', source.material());
  });
});
