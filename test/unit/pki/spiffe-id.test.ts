import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SpiffeId, TrustDomain } from '../../../pki/spiffe-id.ts';
import { expectCode } from '../../support/expect-code.ts';
import { checkProperty } from '../../support/property.ts';

const LOWER = 'abcdefghijklmnopqrstuvwxyz';
const TRUST_DOMAIN_CHARACTERS = `${LOWER}0123456789.-_`;
const SEGMENT_CHARACTERS = `${LOWER}${LOWER.toUpperCase()}0123456789.-_`;

/** One character for each byte value, as URIs from certificates arrive. */
const EVERY_BYTE = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte));

function isAccepted(action: () => unknown, code: 'spiffe_id_invalid' | 'trust_domain_invalid'): boolean {
  try {
    action();
    return true;
  } catch {
    const error = expectCode(code, action);
    assert.match(error.message, /\(SPIFFE-ID section 2(\.\d)?\)$/, 'each refusal names its section');
    return false;
  }
}

describe('a trust domain', () => {
  const placements = [
    { where: 'as the whole name', name: (c: string) => c },
    { where: 'first', name: (c: string) => `${c}example.org` },
    { where: 'inside', name: (c: string) => `exa${c}mple.org` },
    { where: 'last', name: (c: string) => `example.org${c}` },
  ];
  for (const { where, name } of placements)
    it(`takes a-z, 0-9, dot, dash and underscore ${where}, and no other of the 256 byte values`, () => {
      for (const c of EVERY_BYTE)
        assert.equal(
          isAccepted(() => TrustDomain.parse(name(c)), 'trust_domain_invalid'),
          TRUST_DOMAIN_CHARACTERS.includes(c),
          `byte 0x${c.charCodeAt(0).toString(16)}`,
        );
    });

  const accepted = ['a', 'example.org', '10.0.0.1', 'a..b', '.', '..', '-', '_', 'x'.repeat(255)];
  for (const name of accepted)
    it(`takes ${name.slice(0, 20)} (${name.length} bytes) as a name like any other`, () => {
      const td = TrustDomain.parse(name);
      assert.equal(td.name, name);
      assert.equal(td.id, `spiffe://${name}`);
      assert.equal(String(td), name);
      assert.equal(JSON.stringify({ td }), `{"td":"${name}"}`);
    });

  const refused = [
    { name: '', message: /trust domain is empty \(SPIFFE-ID section 2\.1\)/ },
    { name: 'x'.repeat(256), message: /longer than 255 bytes \(SPIFFE-ID section 2\.3\)/ },
    { name: 'Example.org', message: /upper-case letter "E" \(SPIFFE-ID section 2\.1\)/ },
    { name: 'example.org:8443', message: /has a port, or a colon \(SPIFFE-ID section 2\.1\)/ },
    { name: '[::1]', message: /has the character "\[".*\(SPIFFE-ID section 2\.1\)/ },
    { name: 'user@example.org', message: /userinfo part \(SPIFFE-ID section 2\.1\)/ },
    { name: 'user:secret@example.org', message: /userinfo part \(SPIFFE-ID section 2\.1\)/ },
    { name: 'example%2eorg', message: /percent-encoding \(SPIFFE-ID section 2\.1\)/ },
    { name: 'exämple.org', message: /has the character "\\u00e4"/ },
    { name: 'example.org\n', message: /has the character "\\n"/ },
  ];
  for (const { name, message } of refused)
    it(`refuses ${JSON.stringify(name.slice(0, 30))} by its rule`, () => {
      assert.match(expectCode('trust_domain_invalid', () => TrustDomain.parse(name)).message, message);
    });

  it('tells who gives an ID in place of a name, or capitals, what to give', () => {
    const { hint } = expectCode('trust_domain_invalid', () => TrustDomain.parse('spiffe://example.org'));
    assert.match(hint ?? '', /bare name/);
    const capitals = expectCode('trust_domain_invalid', () => TrustDomain.parse('Example.org'));
    assert.match(capitals.hint ?? '', /lower case/);
  });

  it('equals another of the same name only', () => {
    assert.ok(TrustDomain.parse('example.org').equals(TrustDomain.parse('example.org')));
    assert.ok(!TrustDomain.parse('example.org').equals(TrustDomain.parse('example.com')));
  });
});

describe('a SPIFFE ID', () => {
  const placements = [
    { where: 'as a whole segment', uri: (c: string) => `spiffe://td/${c}`, not: '.' },
    { where: 'first in a segment', uri: (c: string) => `spiffe://td/${c}ab`, not: '' },
    { where: 'inside a segment', uri: (c: string) => `spiffe://td/a${c}b`, not: '', alsoSlash: true },
    { where: 'last in the path', uri: (c: string) => `spiffe://td/ab${c}`, not: '' },
    { where: 'after a dot', uri: (c: string) => `spiffe://td/.${c}`, not: '.' },
  ];
  for (const { where, uri, not, alsoSlash = false } of placements)
    it(`takes letters, digits, dot, dash and underscore ${where}, and no other of the 256 byte values`, () => {
      for (const c of EVERY_BYTE) {
        const isAllowed = (SEGMENT_CHARACTERS.includes(c) && c !== not) || (alsoSlash && c === '/');
        assert.equal(
          isAccepted(() => SpiffeId.parse(uri(c)), 'spiffe_id_invalid'),
          isAllowed,
          `byte 0x${c.charCodeAt(0).toString(16)}`,
        );
      }
    });

  it('takes the trust domain characters in its trust domain, a slash behind it, and no other byte value', () => {
    for (const c of EVERY_BYTE)
      assert.equal(
        isAccepted(() => SpiffeId.parse(`spiffe://exa${c}mple`), 'spiffe_id_invalid'),
        TRUST_DOMAIN_CHARACTERS.includes(c) || c === '/',
        `byte 0x${c.charCodeAt(0).toString(16)}`,
      );
  });

  it('takes no byte value in place of, before or behind a character of its scheme but the two cases of the letter', () => {
    for (let i = 0; i < 'spiffe://'.length; i += 1)
      for (const c of EVERY_BYTE) {
        const scheme = `${'spiffe://'.slice(0, i)}${c}${'spiffe://'.slice(i + 1)}`;
        assert.equal(
          isAccepted(() => SpiffeId.parse(`${scheme}td/a`), 'spiffe_id_invalid'),
          scheme.toLowerCase() === 'spiffe://',
        );
      }
    for (const c of EVERY_BYTE)
      assert.ok(!isAccepted(() => SpiffeId.parse(`${c}spiffe://td/a`), 'spiffe_id_invalid'));
  });

  it('gives its trust domain, its path and its text', () => {
    const id = SpiffeId.parse('spiffe://example.org/ns/default/sa/Web_1');
    assert.equal(id.trustDomain.name, 'example.org');
    assert.equal(id.path, '/ns/default/sa/Web_1');
    assert.equal(id.toString(), 'spiffe://example.org/ns/default/sa/Web_1');
    assert.equal(JSON.stringify([id]), '["spiffe://example.org/ns/default/sa/Web_1"]');
  });

  it('may be the one of the trust domain, without a path', () => {
    const id = SpiffeId.parse('spiffe://example.org');
    assert.equal(id.path, '');
    assert.equal(id.toString(), id.trustDomain.id);
  });

  it('reads its scheme in any case and keeps it in lower case (section 2.4)', () => {
    assert.equal(SpiffeId.parse('SPIFFE://td/a').toString(), 'spiffe://td/a');
    assert.ok(SpiffeId.parse('SpIfFe://td/a').equals(SpiffeId.parse('spiffe://td/a')));
  });

  it('compares its path with its case (section 2.4)', () => {
    assert.ok(!SpiffeId.parse('spiffe://td/A').equals(SpiffeId.parse('spiffe://td/a')));
  });

  const accepted = [
    'spiffe://td/...',
    'spiffe://td/.a',
    'spiffe://td/..a',
    'spiffe://td/a.',
    'spiffe://1.2.3.4/x',
  ];
  for (const uri of accepted) it(`takes ${uri}`, () => assert.equal(SpiffeId.parse(uri).toString(), uri));

  const refused = [
    { uri: '', message: /it is empty \(SPIFFE-ID section 2\)/ },
    { uri: 'https://td/a', message: /does not begin with spiffe:\/\/ \(SPIFFE-ID section 2\)/ },
    { uri: 'spiffe:/td/a', message: /does not begin with spiffe:\/\// },
    { uri: 'spiffe', message: /does not begin with spiffe:\/\// },
    { uri: ' spiffe://td/a', message: /does not begin with spiffe:\/\// },
    { uri: 'spiffe://', message: /trust domain is empty \(SPIFFE-ID section 2\.1\)/ },
    { uri: 'spiffe:///a', message: /trust domain is empty \(SPIFFE-ID section 2\.1\)/ },
    { uri: 'spiffe://Td/a', message: /upper-case letter "T" \(SPIFFE-ID section 2\.1\)/ },
    { uri: 'spiffe://td:443/a', message: /has a port, or a colon \(SPIFFE-ID section 2\.1\)/ },
    { uri: 'spiffe://user@td/a', message: /userinfo part \(SPIFFE-ID section 2\.1\)/ },
    { uri: 'spiffe://[::1]/a', message: /has the character "\["/ },
    { uri: 'spiffe://t%64/a', message: /trust domain has percent-encoding \(SPIFFE-ID section 2\.1\)/ },
    { uri: 'spiffe://td/a?b', message: /has a query \(SPIFFE-ID section 2\)/ },
    { uri: 'spiffe://td?b', message: /has a query/ },
    { uri: 'spiffe://td/a#b', message: /has a fragment \(SPIFFE-ID section 2\)/ },
    { uri: 'spiffe://td/', message: /path ends in a slash \(SPIFFE-ID section 2\.2\)/ },
    { uri: 'spiffe://td/a/', message: /path ends in a slash \(SPIFFE-ID section 2\.2\)/ },
    { uri: 'spiffe://td//a', message: /empty segment \(SPIFFE-ID section 2\.2\)/ },
    { uri: 'spiffe://td/a//b', message: /empty segment \(SPIFFE-ID section 2\.2\)/ },
    { uri: 'spiffe://td/./a', message: /segment "\." \(SPIFFE-ID section 2\.2\)/ },
    { uri: 'spiffe://td/a/..', message: /segment "\.\." \(SPIFFE-ID section 2\.2\)/ },
    { uri: 'spiffe://td/%61', message: /path has percent-encoding \(SPIFFE-ID section 2\.2\)/ },
    { uri: 'spiffe://td/a b', message: /path has the character " ".*\(SPIFFE-ID section 2\.2\)/ },
    { uri: 'spiffe://td/a\u0000', message: /path has the character "\\u0000"/ },
    { uri: 'spiffe://td/\u00e4', message: /path has the character "\\u00e4"/ },
    { uri: 'spiffe://td/\ud83d\ude00', message: /path has the character/ },
    { uri: `spiffe://${'x'.repeat(256)}/a`, message: /longer than 255 bytes \(SPIFFE-ID section 2\.3\)/ },
  ];
  for (const { uri, message } of refused)
    it(`refuses ${JSON.stringify(uri.slice(0, 40))} by its rule`, () => {
      assert.match(expectCode('spiffe_id_invalid', () => SpiffeId.parse(uri)).message, message);
    });

  it('has at most 2048 bytes (section 2.3)', () => {
    const head = 'spiffe://example.org/';
    const longest = head + 'x'.repeat(2048 - head.length);
    assert.equal(SpiffeId.parse(longest).toString().length, 2048);
    const error = expectCode('spiffe_id_invalid', () => SpiffeId.parse(`${longest}x`));
    assert.match(error.message, /longer than 2048 bytes \(SPIFFE-ID section 2\.3\)$/);
    assert.ok(error.message.length < 300, 'the value in the message is bounded');
    const td = TrustDomain.parse('example.org');
    assert.equal(SpiffeId.of(td, longest.slice('spiffe://example.org'.length)).toString(), longest);
    expectCode('spiffe_id_invalid', () => SpiffeId.of(td, `/${'x'.repeat(2048)}`));
  });

  it('is made of a trust domain and a path by the same rules', () => {
    const td = TrustDomain.parse('example.org');
    assert.equal(SpiffeId.of(td, '').toString(), 'spiffe://example.org');
    assert.equal(SpiffeId.of(td, '/a/b').toString(), 'spiffe://example.org/a/b');
    const paths = [
      'a',
      '/',
      '/a/',
      '//a',
      '/a//b',
      '/.',
      '/..',
      '/a?b',
      '/a#b',
      '/%61',
      '.evil.com',
      '@x',
      ':1',
    ];
    for (const path of paths) expectCode('spiffe_id_invalid', () => SpiffeId.of(td, path));
  });

  const name = fc.string({
    unit: fc.constantFrom(...TRUST_DOMAIN_CHARACTERS.split('')),
    minLength: 1,
    maxLength: 255,
  });
  const segment = fc
    .string({ unit: fc.constantFrom(...SEGMENT_CHARACTERS.split('')), minLength: 1, maxLength: 20 })
    .filter((s) => s !== '.' && s !== '..');

  it('comes back from its own text, for any name and segments', () => {
    checkProperty(
      fc.property(name, fc.array(segment, { maxLength: 10 }), (td, segments) => {
        const path = segments.map((s) => `/${s}`).join('');
        const id = SpiffeId.of(TrustDomain.parse(td), path);
        const again = SpiffeId.parse(id.toString());
        assert.ok(again.equals(id));
        assert.ok(again.trustDomain.equals(id.trustDomain));
        assert.equal(again.path, path);
      }),
    );
  });

  it('of any text at all either has a canonical form or is refused', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string().map((s) => `spiffe://td/${s}`),
    );
    checkProperty(
      fc.property(text, (uri) => {
        if (!isAccepted(() => SpiffeId.parse(uri), 'spiffe_id_invalid')) return;
        const canonical = SpiffeId.parse(uri).toString();
        assert.equal(canonical, `spiffe://${uri.slice('spiffe://'.length)}`);
      }),
      2000,
    );
  });
});
