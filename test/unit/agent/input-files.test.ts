import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import fc from 'fast-check';
import { parseBootstrapBundle, readBootstrapBundle } from '../../../agent/bootstrap-bundle.ts';
import { readSmallFile } from '../../../host/small-file.ts';
import { readToken } from '../../../agent/token-file.ts';
import { formatBundleDocument } from '../../../pki/bundle-document.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { isKedgeError } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { encodePem } from '../../../pki/pem.ts';
import { makeAnchor, makeLeaf } from '../../support/certificates.ts';
import { expectRejection } from '../../support/expect-code.ts';
import { checkProperty } from '../../support/property.ts';
import { suiteFolder } from '../../support/suite-folder.ts';

const folder = suiteFolder();
let files = 0;
const fileWith = (content: string | Uint8Array): string => {
  files += 1;
  const path = join(folder, `file-${files}`);
  writeFileSync(path, content);
  return path;
};

describe('a small file', () => {
  it('is read whole, up to the limit', async () => {
    assert.deepEqual(await readSmallFile(fileWith('abc'), 3, 'file'), Uint8Array.of(97, 98, 99));
    assert.equal((await readSmallFile(fileWith(''), 3, 'file')).length, 0);
  });

  it('over the limit is refused', async () => {
    await expectRejection('message_too_large', readSmallFile(fileWith('abcd'), 3, 'file'));
  });

  it('that says that it is empty and goes on for ever is refused', async () => {
    await expectRejection('file_unreadable', readSmallFile('/dev/zero', 1_000, 'file'));
    assert.ok((await readSmallFile('/proc/self/status', 100_000, 'file')).length > 0);
  });

  it('that is none is refused', async () => {
    const fifo = join(folder, 'fifo');
    spawnSync('mkfifo', [fifo]);
    mkdirSync(join(folder, 'folder'));
    for (const path of [join(folder, 'absent'), fifo, join(folder, 'folder'), join(fifo, 'below')]) {
      await expectRejection('file_unreadable', readSmallFile(path, 10, 'file'));
    }
  });
});

describe('the token file', () => {
  it('gives the token without the white space around it', async () => {
    assert.equal(await readToken(fileWith('\n abc.DEF-_.123~+/== \r\n')), 'abc.DEF-_.123~+/==');
  });

  it('is read anew each time', async () => {
    const path = fileWith('first');
    assert.equal(await readToken(path), 'first');
    writeFileSync(path, 'second');
    assert.equal(await readToken(path), 'second');
  });

  const wrong: readonly { name: string; content: string | null; code: ErrorCode }[] = [
    { name: 'that is missing', content: null, code: 'file_unreadable' },
    { name: 'that is empty', content: '', code: 'token_missing' },
    { name: 'of white space', content: ' \n\t', code: 'token_missing' },
    { name: 'over the limit', content: 'x'.repeat(LIMITS.tokenBytes + 1), code: 'token_malformed' },
    { name: 'of two tokens', content: 'abc\ndef', code: 'token_malformed' },
    { name: 'that would add a header', content: 'abc\r\nx-evil: 1', code: 'token_malformed' },
    { name: 'that is binary', content: '\0\u0001', code: 'token_malformed' },
    { name: 'that is not ASCII', content: 'tøken', code: 'token_malformed' },
  ];
  for (const { name, content, code } of wrong) {
    it(`${name} is ${code}, and its content is in no message`, async () => {
      const path = content === null ? join(folder, 'absent') : fileWith(content);
      const { message, hint } = await expectRejection(code, readToken(path));
      if (content !== null && content.trim() !== '')
        assert.ok(!`${message} ${hint}`.includes(content.trim()));
    });
  }
});

describe('the bootstrap bundle', () => {
  let anchor: Uint8Array;
  let other: Uint8Array;
  before(async () => {
    [anchor, other] = [(await makeAnchor()).der, (await makeAnchor()).der];
  });

  it('may be PEM, with text around it', async () => {
    const text = `# anchors\n${encodePem('CERTIFICATE', anchor)}\nand\n${encodePem('CERTIFICATE', other)}`;
    assert.deepEqual(await readBootstrapBundle(fileWith(text)), [anchor, other]);
  });

  it('may be a SPIFFE bundle document', async () => {
    const document = formatBundleDocument({ sequence: 7n, x509Authorities: [anchor, other] });
    assert.deepEqual(await readBootstrapBundle(fileWith(document)), [anchor, other]);
  });

  it('may hold a certificate that is no CA: that is for the check of the chain to see', async () => {
    const leaf = await makeLeaf(await makeAnchor());
    assert.equal((await readBootstrapBundle(fileWith(encodePem('CERTIFICATE', leaf)))).length, 1);
  });

  const wrong: readonly { name: string; content: () => string | Uint8Array | null; code: ErrorCode }[] = [
    { name: 'that is missing', content: () => null, code: 'file_unreadable' },
    { name: 'that is empty', content: () => '', code: 'bundle_empty' },
    { name: 'of white space', content: () => ' \n', code: 'bundle_empty' },
    { name: 'without a key', content: () => '{"keys":[]}', code: 'bundle_empty' },
    { name: 'that is no JSON', content: () => '{"keys":', code: 'bundle_malformed' },
    { name: 'that is random bytes', content: () => Buffer.from('ff00fe01', 'hex'), code: 'bundle_malformed' },
    {
      name: 'with a PEM block that is cut',
      content: () => encodePem('CERTIFICATE', anchor).slice(0, 200),
      code: 'pem_invalid',
    },
    {
      name: 'with a certificate that is cut',
      content: () => encodePem('CERTIFICATE', anchor.subarray(0, 100)),
      code: 'bundle_malformed',
    },
    {
      name: 'with a private key alone',
      content: () => encodePem('PRIVATE KEY', Uint8Array.of(1)),
      code: 'pem_invalid',
    },
    {
      name: 'over the limit',
      content: () => ' '.repeat(LIMITS.bundleDocumentBytes + 1),
      code: 'message_too_large',
    },
    {
      name: 'of too many anchors',
      content: () => encodePem('CERTIFICATE', anchor).repeat(LIMITS.bundleAuthorities + 1),
      code: 'message_too_large',
    },
  ];
  for (const { name, content, code } of wrong) {
    it(`${name} is ${code}`, async () => {
      const bytes = content();
      await expectRejection(
        code,
        readBootstrapBundle(bytes === null ? join(folder, 'absent') : fileWith(bytes)),
      );
    });
  }

  it('of any bytes is read or refused with a code', () => {
    checkProperty(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 300 }),
          fc.string().map((text) => Buffer.from(`-----BEGIN${text}`)),
        ),
        (bytes) => {
          try {
            parseBootstrapBundle(bytes);
          } catch (error) {
            assert.ok(isKedgeError(error), String(error));
          }
        },
      ),
      500,
    );
  });
});
