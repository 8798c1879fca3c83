import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { formatBundleDocument } from '../../pki/bundle-document.ts';
import { encodePem } from '../../pki/pem.ts';
import { ext, makeAnchor, makeIssuer, makeLeaf, NOW_MS, SVID_ID } from '../support/certificates.ts';
import { type Ended, runKedge } from '../support/kedge-process.ts';

const AT = ['--at', new Date(NOW_MS).toISOString()];
const EXPIRED_AT = ['--at', '2027-01-01T00:00:00Z'];

interface Row {
  readonly name: string;
  readonly argv: readonly string[];
  readonly wantExit: 0 | 1 | 2;
  readonly wantCode: string;
  readonly hint?: RegExp;
}

describe('kedge svid and kedge bundle, run as an operator does', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kedge-cli-'));
  const write = (name: string, content: string | Uint8Array): void =>
    writeFileSync(join(folder, name), content);
  const run = (argv: readonly string[], stdin?: string): Promise<Ended> =>
    runKedge(argv, { cwd: folder, ...(stdin === undefined ? {} : { stdin }) });
  let leafPem = '';

  before(async () => {
    const anchor = await makeAnchor();
    const issuer = await makeIssuer(anchor);
    const leaf = await makeLeaf(issuer);
    const other = await makeAnchor();
    const foreign = await makeAnchor({
      extensions: { san: ext.uris('spiffe://other.example') },
    });
    leafPem = encodePem('CERTIFICATE', leaf);
    const issuerPem = encodePem('CERTIFICATE', issuer.der);
    const chain = leafPem + issuerPem;
    write('chain.pem', chain);
    write('credential.pem', `-----BEGIN PRIVATE KEY-----\nnot read\n-----END PRIVATE KEY-----\n${chain}`);
    write('chain.der', Buffer.concat([leaf, issuer.der]));
    write('leaf.pem', leafPem);
    write('bundle.pem', encodePem('CERTIFICATE', anchor.der));
    write(
      'bundle.json',
      formatBundleDocument({ sequence: 9n, refreshHintSeconds: 60, x509Authorities: [anchor.der] }),
    );
    write('empty.json', formatBundleDocument({ x509Authorities: [] }));
    write('other.pem', encodePem('CERTIFICATE', other.der));
    write('foreign.pem', encodePem('CERTIFICATE', foreign.der));
    write('ca.pem', issuerPem);
    write('empty.pem', '');
    write('garbage.pem', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
    write('base64.pem', '-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n');
    write('truncated.der', leaf.subarray(0, leaf.length - 1));
    write('trailing.der', Buffer.concat([leaf, Buffer.of(0)]));
    write('large.pem', Buffer.alloc(2 * 1024 * 1024, 0x41));
    write('many.pem', issuerPem.repeat(65));
    write('long.pem', leafPem + issuerPem.repeat(9));
    write('wrong.json', '{"keys": 5}');
    write('secret.pem', 'my private notes\n');
    mkdirSync(join(folder, 'folder'));
  });
  after(() => rmSync(folder, { recursive: true }));

  const good = [
    { name: 'a PEM chain against a PEM bundle', argv: ['chain.pem', '--bundle', 'bundle.pem'] },
    { name: 'a DER chain against a SPIFFE bundle', argv: ['chain.der', '--bundle', 'bundle.json'] },
    { name: 'a chain behind a private key', argv: ['credential.pem', '--bundle', 'bundle.pem'] },
    {
      name: 'the SPIFFE ID that is expected',
      argv: ['chain.pem', '--bundle', 'bundle.pem', '--id', SVID_ID],
    },
    {
      name: 'a trust domain that is named',
      argv: ['chain.pem', '--bundle', 'bundle.pem', '--trust-domain', 'example.org'],
    },
  ];
  for (const { name, argv } of good) {
    it(`verifies ${name}`, async () => {
      const { code, stdout, stderr } = await run(['svid', 'verify', ...argv, ...AT]);
      assert.deepEqual([code, stderr], [0, '']);
      assert.match(stdout, /^verdict {6}valid at 2026-06-01T12:00:00Z$/m);
      assert.match(stdout, new RegExp(`^SPIFFE ID {4}${SVID_ID}$`, 'm'));
    });
  }

  const chain = ['svid', 'verify', 'chain.pem', '--bundle', 'bundle.pem'];
  const verdicts: Row[] = [
    {
      name: 'an SVID that expired before the time given',
      argv: [...chain, ...EXPIRED_AT],
      wantExit: 1,
      wantCode: 'svid_expired',
    },
    {
      name: 'an SVID that is not valid yet',
      argv: [...chain, '--at', '2020-01-01T00:00:00Z'],
      wantExit: 1,
      wantCode: 'svid_not_yet_valid',
    },
    {
      name: 'another SPIFFE ID than expected',
      argv: [...chain, ...AT, '--id', 'spiffe://example.org/x'],
      wantExit: 1,
      wantCode: 'svid_unexpected_id',
    },
    {
      name: 'a bundle of another trust domain',
      argv: ['svid', 'verify', 'chain.pem', '--bundle', 'foreign.pem', ...AT],
      wantExit: 1,
      wantCode: 'svid_trust_domain_unknown',
    },
    {
      name: 'a bundle that is said to be of another trust domain',
      argv: [...chain, ...AT, '--trust-domain', 'other.example'],
      wantExit: 1,
      wantCode: 'svid_trust_domain_unknown',
    },
    {
      name: 'a bundle with other anchors',
      argv: ['svid', 'verify', 'chain.pem', '--bundle', 'other.pem', ...AT],
      wantExit: 1,
      wantCode: 'svid_untrusted',
    },
    {
      name: 'a chain without its issuer',
      argv: ['svid', 'verify', 'leaf.pem', '--bundle', 'bundle.pem', ...AT],
      wantExit: 1,
      wantCode: 'svid_untrusted',
    },
    {
      name: 'a CA certificate as a leaf',
      argv: ['svid', 'verify', 'ca.pem', '--bundle', 'bundle.pem', ...AT],
      wantExit: 1,
      wantCode: 'svid_leaf_is_ca',
    },
    {
      name: 'a chain that is too long',
      argv: ['svid', 'verify', 'long.pem', '--bundle', 'bundle.pem', ...AT],
      wantExit: 1,
      wantCode: 'svid_chain_too_long',
    },
    {
      name: 'a garbage certificate',
      argv: ['svid', 'verify', 'garbage.pem', '--bundle', 'bundle.pem', ...AT],
      wantExit: 1,
      wantCode: 'svid_malformed',
    },
    {
      name: 'a file without a certificate',
      argv: ['svid', 'verify', 'empty.pem', '--bundle', 'bundle.pem', ...AT],
      wantExit: 1,
      wantCode: 'pem_invalid',
    },
  ];
  for (const { name, argv, wantExit, wantCode } of verdicts) {
    it(`says no to ${name}: ${wantCode}`, async () => {
      const { code, stdout, stderr } = await run(argv);
      assert.deepEqual([code, stderr], [wantExit, '']);
      assert.match(stdout, /^verdict {2}NOT VALID$/m);
      assert.match(stdout, new RegExp(`^code {5}${wantCode}$`, 'm'));
      const json = await run([...argv, '--output', 'json']);
      const verdict = JSON.parse(json.stdout) as { valid: boolean; code: string };
      assert.deepEqual([json.code, verdict.valid, verdict.code], [wantExit, false, wantCode]);
    });
  }

  const refused: Row[] = [
    {
      name: 'a chain that does not exist',
      argv: ['svid', 'verify', 'nowhere.pem', '--bundle', 'bundle.pem'],
      wantExit: 2,
      wantCode: 'file_unreadable',
    },
    {
      name: 'a bundle that does not exist',
      argv: ['svid', 'verify', 'chain.pem', '--bundle', 'nowhere.pem'],
      wantExit: 2,
      wantCode: 'file_unreadable',
    },
    {
      name: 'a folder as a chain',
      argv: ['svid', 'verify', 'folder', '--bundle', 'bundle.pem'],
      wantExit: 2,
      wantCode: 'file_unreadable',
    },
    {
      name: 'a missing bundle',
      argv: ['svid', 'verify', 'chain.pem'],
      wantExit: 2,
      wantCode: 'usage_invalid',
      hint: /--bundle <file>/,
    },
    {
      name: 'a missing chain',
      argv: ['svid', 'verify', '--bundle', 'bundle.pem'],
      wantExit: 2,
      wantCode: 'usage_invalid',
    },
    {
      name: 'a time that is none',
      argv: [...chain, '--at', 'yesterday'],
      wantExit: 2,
      wantCode: 'usage_invalid',
      hint: /2026-01-31T12:00:00Z/,
    },
    {
      name: 'an expected ID that is none',
      argv: [...chain, '--id', 'http://example.org/x'],
      wantExit: 2,
      wantCode: 'usage_invalid',
    },
    {
      name: 'a trust domain that is none',
      argv: [...chain, '--trust-domain', 'EXAMPLE'],
      wantExit: 2,
      wantCode: 'usage_invalid',
    },
    {
      name: 'two bundles',
      argv: [...chain, '--bundle', 'other.pem'],
      wantExit: 2,
      wantCode: 'usage_invalid',
    },
    {
      name: 'an unknown option',
      argv: [...chain, '--bundel', 'x'],
      wantExit: 2,
      wantCode: 'usage_invalid',
      hint: /--trust-domain/,
    },
    {
      name: 'an output format that is none',
      argv: [...chain, '--output', 'yaml'],
      wantExit: 2,
      wantCode: 'usage_invalid',
      hint: /text, json/,
    },
    {
      name: 'a bundle without an authority',
      argv: ['svid', 'verify', 'chain.pem', '--bundle', 'empty.json'],
      wantExit: 1,
      wantCode: 'bundle_empty',
    },
    {
      name: 'a bundle that is no bundle',
      argv: ['svid', 'verify', 'chain.pem', '--bundle', 'wrong.json'],
      wantExit: 1,
      wantCode: 'bundle_malformed',
    },
    {
      name: 'a garbage authority',
      argv: ['svid', 'verify', 'chain.pem', '--bundle', 'garbage.pem'],
      wantExit: 1,
      wantCode: 'bundle_malformed',
    },
    {
      name: 'a file that holds something else',
      argv: ['svid', 'inspect', 'secret.pem'],
      wantExit: 1,
      wantCode: 'pem_invalid',
    },
    {
      name: 'a PEM block that is not base64',
      argv: ['svid', 'inspect', 'base64.pem'],
      wantExit: 1,
      wantCode: 'pem_invalid',
    },
    {
      name: 'a garbage certificate',
      argv: ['svid', 'inspect', 'garbage.pem'],
      wantExit: 1,
      wantCode: 'svid_malformed',
    },
    {
      name: 'a truncated certificate',
      argv: ['svid', 'inspect', 'truncated.der'],
      wantExit: 1,
      wantCode: 'der_invalid',
    },
    {
      name: 'bytes behind a certificate',
      argv: ['svid', 'inspect', 'trailing.der'],
      wantExit: 1,
      wantCode: 'der_invalid',
    },
    {
      name: 'a file over the size limit',
      argv: ['svid', 'inspect', 'large.pem'],
      wantExit: 1,
      wantCode: 'message_too_large',
    },
    {
      name: 'more certificates than the limit',
      argv: ['svid', 'inspect', 'many.pem'],
      wantExit: 1,
      wantCode: 'message_too_large',
    },
    {
      name: 'an endless file',
      argv: ['svid', 'inspect', '/dev/zero'],
      wantExit: 1,
      wantCode: 'message_too_large',
    },
    {
      name: 'two bundles to show',
      argv: ['bundle', 'show', 'bundle.pem', '--socket', '/x.sock'],
      wantExit: 2,
      wantCode: 'usage_invalid',
    },
    {
      name: 'a CA that is not there',
      argv: ['status'],
      wantExit: 1,
      wantCode: 'ca_unreachable',
      hint: /admin socket/,
    },
    {
      name: 'an agent that is not there',
      argv: ['svid', 'fetch', '--socket', join(folder, 'none.sock')],
      wantExit: 1,
      wantCode: 'agent_unreachable',
    },
    {
      name: 'a Workload API that is not named',
      argv: ['svid', 'fetch'],
      wantExit: 2,
      wantCode: 'usage_invalid',
      hint: /SPIFFE_ENDPOINT_SOCKET/,
    },
    {
      name: 'a Workload API over http',
      argv: ['svid', 'fetch', '--socket', 'http://127.0.0.1:1'],
      wantExit: 2,
      wantCode: 'usage_invalid',
    },
    {
      name: 'a health check of no agent',
      argv: ['agent', 'healthcheck', '--socket', join(folder, 'none.sock')],
      wantExit: 1,
      wantCode: 'agent_unreachable',
    },
    {
      name: 'to wait longer than told',
      argv: ['agent', 'wait', '--socket', join(folder, 'none.sock'), '--timeout', '200ms'],
      wantExit: 1,
      wantCode: 'deadline_exceeded',
    },
    {
      name: 'a duration that is none',
      argv: ['agent', 'wait', '--socket', '/x', '--timeout', 'soon'],
      wantExit: 2,
      wantCode: 'config_invalid',
    },
    {
      name: 'an agent without its settings',
      argv: ['agent'],
      wantExit: 2,
      wantCode: 'config_invalid',
      hint: /--trust-domain/,
    },
    {
      name: 'an audit log that is not there',
      argv: ['audit', 'verify', 'folder'],
      wantExit: 2,
      wantCode: 'file_unreadable',
    },
    {
      name: 'a development issuer that is not there',
      argv: ['token', '--namespace', 'a', '--service-account', 'b'],
      wantExit: 2,
      wantCode: 'file_unreadable',
    },
    {
      name: 'an unknown command',
      argv: ['svdi'],
      wantExit: 2,
      wantCode: 'usage_invalid',
      hint: /svid verify/,
    },
  ];
  for (const { name, argv, wantExit, wantCode, hint } of refused) {
    it(`refuses ${name} in words, without a stack: ${wantCode}`, async () => {
      const { code, stdout, stderr } = await run(argv);
      assert.deepEqual([code, stdout], [wantExit, ''], stderr);
      assert.match(stderr, /^error: /);
      assert.match(stderr, new RegExp(`^code: ${wantCode}$`, 'm'));
      assert.doesNotMatch(stderr, /^ {4}at /m);
      if (hint !== undefined) assert.match(stderr, hint);
    });
  }

  it('never prints what is in a file that it cannot use', async () => {
    const { stdout, stderr } = await run(['svid', 'inspect', 'secret.pem']);
    assert.doesNotMatch(stdout + stderr, /private notes/);
  });

  it('reads standard input, and gives JSON that a script can use', async () => {
    const { code, stdout } = await run(['svid', 'inspect', '-', '-o', 'json'], leafPem);
    assert.equal(code, 0);
    const [leaf] = JSON.parse(stdout) as { spiffeId: string; isCa: boolean }[];
    assert.deepEqual([leaf?.spiffeId, leaf?.isCa], [SVID_ID, false]);
  });

  it('turns a bundle from PEM to a SPIFFE bundle and back', async () => {
    const spiffe = await run(['bundle', 'show', 'bundle.pem', '-o', 'spiffe']);
    const pem = await run(['bundle', 'show', '-', '-o', 'pem'], spiffe.stdout);
    const before = await run(['bundle', 'show', 'bundle.pem', '-o', 'pem']);
    assert.equal(pem.stdout, before.stdout);
    const text = await run(['bundle', 'show', 'bundle.json']);
    assert.match(text.stdout, /^trust domain {2}example\.org$/m);
    assert.match(text.stdout, /^sequence {6}9$/m);
  });
});
