import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  checkAbort,
  checkCommit,
  parseCrtLists,
  parseInfo,
  parseSet,
  parseShownAuthorities,
  parseShownCertificate,
  parseTransaction,
} from '../../../../agent/feed/haproxy-answers.ts';
import type { HaproxyFile } from '../../../../agent/feed/haproxy-commands.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { expectCode } from '../../../support/expect-code.ts';

/** Answers of real HAProxys: version, then name of the exchange. */
const RECORDED = JSON.parse(
  readFileSync(join(import.meta.dirname, 'haproxy-answers.json'), 'utf8'),
) as Record<string, Record<string, string>>;

const CERT: HaproxyFile = { kind: 'cert', path: '/run/kedge/haproxy/svid.pem' };
const CA: HaproxyFile = { kind: 'ca-file', path: '/run/kedge/haproxy/ca.pem' };
const CRL: HaproxyFile = { kind: 'crl-file', path: '/run/kedge/haproxy/crl.pem' };

/** What each recorded answer is read as, in both versions. */
const GOOD: readonly (readonly [name: string, read: (answer: string) => unknown, want: unknown])[] = [
  ['cert list', (a) => parseTransaction(a, 'cert'), null],
  ['cert list with transaction', (a) => parseTransaction(a, 'cert'), CERT.path],
  ['ca list', (a) => parseTransaction(a, 'ca-file'), null],
  ['ca list with transaction', (a) => parseTransaction(a, 'ca-file'), CA.path],
  ['crl list', (a) => parseTransaction(a, 'crl-file'), null],
  ['crl list with transaction', (a) => parseTransaction(a, 'crl-file'), CRL.path],
  ['crt-lists', parseCrtLists, ['/run/kedge/haproxy/crt-list.txt']],
  [
    'cert',
    (a) => parseShownCertificate(a, CERT),
    { isUsed: true, fingerprint: 'E63145D43CC1278811B4D87F56083908791E2BB9' },
  ],
  [
    'cert after commit',
    (a) => parseShownCertificate(a, CERT),
    { isUsed: true, fingerprint: '0838EF402154C796502710BCF0F7168669052485' },
  ],
  [
    'ca',
    (a) => parseShownAuthorities(a, CA),
    { isUsed: true, fingerprints: ['DC1B17FBA000A1C134F78FD8824CDF57418AF917'] },
  ],
  ['cert set', (a) => parseSet(a, CERT), CERT.path],
  ['cert set again', (a) => parseSet(a, CERT), CERT.path],
  ['ca set', (a) => parseSet(a, CA), CA.path],
  ['crl set', (a) => parseSet(a, CRL), CRL.path],
  ['cert commit', (a) => checkCommit(a, CERT), undefined],
  ['ca commit', (a) => checkCommit(a, CA), undefined],
  ['crl commit', (a) => checkCommit(a, CRL), undefined],
  ['cert abort', (a) => checkAbort(a, CERT), undefined],
  ['ca abort', (a) => checkAbort(a, CA), undefined],
  ['crl abort', (a) => checkAbort(a, CRL), undefined],
  ['cert abort without transaction', (a) => checkAbort(a, CERT), undefined],
  ['crl abort without transaction', (a) => checkAbort(a, CRL), undefined],
];

/** What each recorded refusal is read as, in both versions. */
const REFUSED: readonly (readonly [name: string, read: (answer: string) => unknown, code: string])[] = [
  ['cert set of junk', (a) => parseSet(a, CERT), 'haproxy_refused'],
  ['ca set of junk', (a) => parseSet(a, CA), 'haproxy_refused'],
  ['ca set of another path', (a) => parseSet(a, CA), 'haproxy_refused'],
  ['cert set of unknown path', (a) => parseSet(a, CERT), 'haproxy_config_unusable'],
  ['ca set of unknown path', (a) => parseSet(a, CA), 'haproxy_config_unusable'],
  ['crl set of unknown path', (a) => parseSet(a, CRL), 'haproxy_config_unusable'],
  ['cert commit with another key', (a) => checkCommit(a, CERT), 'haproxy_refused'],
  ['cert commit without transaction', (a) => checkCommit(a, CERT), 'haproxy_refused'],
  ['cert show unknown', (a) => parseShownCertificate(a, CERT), 'haproxy_config_unusable'],
  ['ca show unknown', (a) => parseShownAuthorities(a, CA), 'haproxy_config_unusable'],
  ['unknown command', (a) => parseSet(a, CA), 'haproxy_refused'],
  ['operator: cert set', (a) => parseSet(a, CERT), 'haproxy_refused'],
  ['operator: abort', (a) => checkAbort(a, CERT), 'haproxy_refused'],
  ['operator: crt-lists', parseCrtLists, 'haproxy_refused'],
];

for (const [version, answers] of Object.entries(RECORDED)) {
  const answer = (name: string): string => {
    const text = answers[name];
    assert.ok(text !== undefined, `nothing recorded for ${name}`);
    return text;
  };
  describe(`answers of HAProxy ${version}`, () => {
    it('tells version and process', () => {
      const process = parseInfo(answer('info'));
      assert.equal(process.version.join('.'), version);
      assert.match(process.id, /^\d+@\d+$/);
    });
    for (const [name, read, want] of GOOD) {
      it(`reads: ${name}`, () => assert.deepEqual(read(answer(name)), want));
      it(`never takes a part of it for another answer: ${name}`, () => {
        const whole = answer(name);
        for (let length = 0; length < whole.length - 2; length += 1) {
          let got: unknown;
          try {
            got = read(whole.slice(0, length));
          } catch (error) {
            assert.ok(isKedgeError(error), String(error));
            continue;
          }
          assert.deepEqual(got, want, `cut after ${length}`);
        }
      });
    }
    for (const [name, read, code] of REFUSED) {
      it(`refuses: ${name}`, () => {
        assert.throws(
          () => read(answer(name)),
          (error: unknown) => isKedgeError(error) && error.code === code,
        );
      });
    }
  });
}

it('reads the trap of 2.6: a set on another path goes into the open transaction, and the answer names that', () => {
  const text = RECORDED['2.6.12']?.['cert set of another path'] ?? '';
  assert.equal(parseSet(text, { kind: 'cert', path: '/run/kedge/haproxy/other.pem' }), CERT.path);
});

describe('hostile answers', () => {
  const reads: readonly ((answer: string) => unknown)[] = [
    parseInfo,
    parseCrtLists,
    (a) => parseTransaction(a, 'cert'),
    (a) => parseShownCertificate(a, CERT),
    (a) => parseShownAuthorities(a, CA),
    (a) => parseSet(a, CERT),
    (a) => checkCommit(a, CERT),
    (a) => checkAbort(a, CERT),
  ];
  const texts = {
    nothing: '',
    'a prompt': '\n> ',
    binary: Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString('latin1'),
    'another protocol': 'HTTP/1.1 400 Bad request\r\n\r\n',
    'a web page': '<html>\n\n',
    'one long line': `${'x'.repeat(200_000)}\n\n`,
    'many lines': `${'Serial: 00\n'.repeat(20_000)}\n`,
  };
  for (const [name, text] of Object.entries(texts)) {
    it(`are refused by every reader: ${name}`, () => {
      for (const read of reads) {
        assert.throws(
          () => read(text),
          (error: unknown) =>
            isKedgeError(error, 'haproxy_answer_invalid', 'haproxy_refused') && error.message.length < 400,
        );
      }
    });
  }

  it('never puts a line of a key into the error', () => {
    const base64 = 'MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAAAAAAAAAAAAAAAA';
    for (const text of [
      `Unknown command: '${base64}', but maybe\n\n`,
      `Unknown command: '-----BEGIN PRIVATE KEY-----\n${base64}'\n\n`,
    ]) {
      assert.throws(
        () => parseSet(text, CERT),
        (error: Error) => !/MIGH|BEGIN/.test(error.message),
      );
    }
  });

  it('refuses two fingerprints, a wrong one, another file, and an unknown status', () => {
    const shown = RECORDED['3.4.0']?.['cert'] ?? '';
    const line = 'SHA1 FingerPrint: E63145D43CC1278811B4D87F56083908791E2BB9\n';
    for (const text of [
      shown.replace(line, line + line),
      shown.replace(line, ''),
      shown.replace('E63145D4', 'e63145d4'),
      shown.replace('Filename: /run', 'Filename: /var'),
    ]) {
      expectCode('haproxy_answer_invalid', () => parseShownCertificate(text, CERT));
    }
    const ca = RECORDED['3.4.0']?.['ca'] ?? '';
    expectCode('haproxy_answer_invalid', () => parseShownAuthorities(ca.replace('Used', 'Perhaps'), CA));
    expectCode('haproxy_answer_invalid', () => parseShownAuthorities(ca.replace('Certificate #1:', ''), CA));
  });
});
