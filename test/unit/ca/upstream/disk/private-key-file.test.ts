import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import * as fc from 'fast-check';
import { parsePrivateKeyFile } from '../../../../../ca/upstream/disk/private-key-file.ts';
import type { ErrorCode } from '../../../../../pki/error-table.ts';
import { isKedgeError } from '../../../../../pki/kedge-error.ts';
import { decodePem, encodePem } from '../../../../../pki/pem.ts';
import { Secret } from '../../../../../pki/secret.ts';
import { makeAnchor, newPrivateKey } from '../../../../support/certificates.ts';
import { expectCode } from '../../../../support/expect-code.ts';
import { OpenSsl } from '../../../../support/openssl.ts';

const ec = newPrivateKey('ec-p256');
const rsa = newPrivateKey('rsa-3072');
const PASSPHRASE = 'correct horse';
const secret = (text = PASSPHRASE): Secret => new Secret(Uint8Array.from(Buffer.from(text)));

const exported = (key: KeyObject, type: 'pkcs8' | 'sec1' | 'pkcs1', cipher?: string): string => {
  const options = { format: 'pem', type } as const;
  return String(key.export(cipher === undefined ? options : { ...options, cipher, passphrase: PASSPHRASE }));
};

const isKey = (found: KeyObject, wanted: KeyObject): boolean =>
  createPublicKey(found).equals(createPublicKey(wanted));

describe('reading the private key of a file', () => {
  const openssl = new OpenSsl();
  let byOpenSsl: Record<string, string> = {};
  let certificate = '';
  before(async () => {
    certificate = encodePem('CERTIFICATE', (await makeAnchor()).der);
    openssl.write('ec.pem', exported(ec, 'pkcs8'));
    openssl.write('passphrase', PASSPHRASE);
    openssl.run('ec -in ec.pem -aes128 -passout file:passphrase -out old.pem');
    openssl.run('pkcs8 -topk8 -in ec.pem -v2 aes-256-cbc -passout file:passphrase -out pbkdf2.pem');
    openssl.run('pkcs8 -topk8 -in ec.pem -scrypt -passout file:passphrase -out scrypt.pem');
    const small = '-scrypt_N 1024 -scrypt_r 1 -scrypt_p 1';
    openssl.run(`pkcs8 -topk8 -in ec.pem -scrypt ${small} -passout file:passphrase -out small.pem`);
    openssl.run('ecparam -name prime256v1 -genkey -out parameters.pem');
    byOpenSsl = Object.fromEntries(
      ['old', 'pbkdf2', 'scrypt', 'small', 'parameters'].map((name) => [
        name,
        Buffer.from(openssl.read(`${name}.pem`)).toString(),
      ]),
    );
  });
  after(() => openssl.remove());

  const GOOD: readonly { name: string; text: () => string; key?: KeyObject; passphrase?: Secret }[] = [
    { name: 'PKCS#8', text: () => exported(ec, 'pkcs8') },
    { name: 'PKCS#8 of an RSA key', text: () => exported(rsa, 'pkcs8'), key: rsa },
    { name: 'SEC 1', text: () => exported(ec, 'sec1') },
    { name: 'PKCS#1', text: () => exported(rsa, 'pkcs1'), key: rsa },
    { name: 'encrypted PKCS#8 by Node', text: () => exported(ec, 'pkcs8', 'aes-256-cbc') },
    { name: 'encrypted PKCS#8 by openssl, PBKDF2', text: () => byOpenSsl['pbkdf2']! },
    { name: 'encrypted PKCS#8 by openssl, scrypt', text: () => byOpenSsl['scrypt']! },
    { name: 'SEC 1 in the encrypted form of old OpenSSL', text: () => byOpenSsl['old']! },
    {
      name: 'text around it, and Windows line ends',
      text: () => `Bag Attributes\n  x: y\n${exported(ec, 'sec1')}trailing`.replaceAll('\n', '\r\n'),
    },
    { name: 'its certificate in front of it', text: () => certificate + exported(ec, 'pkcs8') },
  ];
  for (const { name, text, key = ec } of GOOD) {
    it(`takes ${name}`, () => {
      assert.ok(isKey(parsePrivateKeyFile(text(), 'tls.key', secret()), key));
    });
  }

  it('takes what openssl ecparam -genkey writes, with its parameters in front', () => {
    assert.equal(parsePrivateKeyFile(byOpenSsl['parameters']!, 'tls.key', null).asymmetricKeyType, 'ec');
  });

  const BAD: readonly { name: string; text: () => string; passphrase?: Secret | null; code: ErrorCode }[] = [
    { name: 'an empty file', text: () => '', code: 'disk_pem_missing' },
    {
      name: 'DER',
      text: () => ec.export({ format: 'der', type: 'sec1' }).toString('latin1'),
      code: 'disk_pem_missing',
    },
    { name: 'a certificate', text: () => certificate, code: 'disk_files_swapped' },
    {
      name: 'a file that is cut off',
      text: () => exported(ec, 'pkcs8').slice(0, 120),
      code: 'disk_file_truncated',
    },
    {
      name: 'a key with a line missing',
      text: () => exported(rsa, 'pkcs8').split('\n').toSpliced(5, 1).join('\n'),
      code: 'disk_key_malformed',
    },
    {
      name: 'what is not base64',
      text: () => exported(ec, 'pkcs8').replace('M', '*'),
      code: 'disk_key_malformed',
    },
    {
      name: 'two keys',
      text: () => exported(ec, 'pkcs8') + exported(rsa, 'pkcs8'),
      code: 'disk_key_malformed',
    },
    {
      name: 'a public key',
      text: () => createPublicKey(ec).export({ format: 'pem', type: 'spki' }) as string,
      code: 'disk_key_malformed',
    },
    {
      name: 'another label than what is in it',
      text: () => exported(ec, 'sec1').replaceAll('EC PRIVATE', 'RSA PRIVATE'),
      code: 'disk_key_malformed',
    },
    {
      name: 'an encrypted key without a passphrase',
      text: () => exported(ec, 'pkcs8', 'aes-256-cbc'),
      passphrase: null,
      code: 'disk_passphrase_missing',
    },
    {
      name: 'an old encrypted key without a passphrase',
      text: () => byOpenSsl['old']!,
      passphrase: null,
      code: 'disk_passphrase_missing',
    },
    {
      name: 'an encrypted key with another passphrase',
      text: () => exported(ec, 'pkcs8', 'aes-256-cbc'),
      passphrase: secret('wrong'),
      code: 'disk_passphrase_wrong',
    },
    {
      name: 'an encrypted key that is damaged',
      text: () => encodePem('PRIVATE KEY', Uint8Array.of(0x30, 0)).replaceAll('PRIVATE', 'ENCRYPTED PRIVATE'),
      code: 'disk_key_malformed',
    },
  ];
  for (const { name, text, passphrase = secret(), code } of BAD) {
    it(`refuses ${name}`, () => {
      const error = expectCode(code, () => parsePrivateKeyFile(text(), '/x/tls.key', passphrase));
      assert.match(error.message, /"\/x\/tls\.key"/);
      assert.notEqual(error.hint, undefined);
    });
  }

  it('refuses an encryption that would take more steps than the limit, before it takes them', () => {
    const body = exported(ec, 'pkcs8', 'aes-256-cbc').split('\n').slice(1, -2).join('');
    const der = Buffer.from(body, 'base64');
    const at = der.indexOf(Buffer.from([0x02, 0x02, 0x08, 0x00]));
    assert.ok(at > 0, 'PBKDF2 does not count 2048 rounds');
    // A longer INTEGER makes each SEQUENCE around it longer.
    const wide = Buffer.concat([
      der.subarray(0, at),
      Buffer.from('02047fffffff', 'hex'),
      der.subarray(at + 4),
    ]);
    for (let i = 0; i < at; i += 1) {
      if (wide[i] !== 0x30) continue;
      if (wide[i + 1] === 0x81 && i + 3 + wide[i + 2]! >= at) wide[i + 2]! += 2;
      else if (wide[i + 1]! < 0x80 && i + 2 + wide[i + 1]! >= at) wide[i + 1]! += 2;
    }
    const text = encodePem('PRIVATE KEY', wide).replaceAll('PRIVATE', 'ENCRYPTED PRIVATE');
    const error = expectCode('disk_key_unsupported', () => parsePrivateKeyFile(text, 'tls.key', secret()));
    assert.match(error.message, /takes 2147483647 steps/);
  });

  it('refuses a key whose scrypt takes many lanes, though N and memory are small', () => {
    const [der] = decodePem(byOpenSsl['small']!.replaceAll('ENCRYPTED ', ''), 'PRIVATE KEY');
    const hex = Buffer.from(der!).toString('hex');
    assert.ok(isKey(parsePrivateKeyFile(byOpenSsl['small']!, 'tls.key', secret()), ec));
    const many = hex.replace('02020400020101020101', '0202040002017f02017f');
    assert.notEqual(many, hex);
    const text = encodePem('PRIVATE KEY', Buffer.from(many, 'hex')).replaceAll(
      'PRIVATE',
      'ENCRYPTED PRIVATE',
    );
    const error = expectCode('disk_key_unsupported', () => parsePrivateKeyFile(text, 'tls.key', secret()));
    assert.match(error.message, /takes 66064384 steps/);
  });

  it('never lets anything but its own refusals out, nor a part of the file', () => {
    const text = exported(ec, 'sec1');
    const lines = text.split('\n');
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: text.length }),
        fc.string(),
        fc.nat(text.length),
        (at, put, cut) => {
          const damaged = text.slice(0, at) + put + text.slice(Math.min(text.length, at + cut));
          try {
            parsePrivateKeyFile(damaged, 'tls.key', null);
          } catch (error) {
            assert.ok(isKedgeError(error), String(error));
            assert.ok(
              !lines.some(
                (line) => line.length > 20 && !line.startsWith('--') && error.message.includes(line),
              ),
            );
          }
        },
      ),
    );
  });

  it('refuses keys of no use only later: what they are is not the file’s fault', () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    assert.equal(
      parsePrivateKeyFile(exported(privateKey, 'pkcs8'), 'tls.key', null).asymmetricKeyType,
      'ed25519',
    );
  });
});
