import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  type Anchor,
  emptyTrustState,
  type Issuer,
  type TrustState,
} from '../../../../ca/authority/trust-state.ts';
import { encodeTrustState, parseTrustState } from '../../../../ca/authority/trust-state-codec.ts';
import {
  type PastRotation,
  type Rotation,
  ROTATION_KINDS,
  ROTATION_OUTCOMES,
} from '../../../../ca/authority/rotation.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { LIMITS } from '../../../../pki/limits.ts';
import { makeAnchor, makeIssuer } from '../../../support/certificates.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { checkProperty } from '../../../support/property.ts';
import { activeState, emptyHandle, makeAuthorityPool } from '../../../support/trust-states.ts';

const pool = await makeAuthorityPool(3, 3);
const good = activeState(pool);

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
type Document = {
  [name: string]: Json;
  anchors: { [name: string]: Json }[];
  issuers: ({ [name: string]: Json } & { key: { [name: string]: Json } })[];
  discardedKeys: { [name: string]: Json }[];
};

const bytes = (text: string): Uint8Array => Buffer.from(text);
const documentOf = (state: TrustState): Document =>
  JSON.parse(Buffer.from(encodeTrustState(state)).toString()) as Document;

const name = fc.stringMatching(/^[a-zé /.-]{0,40}$/);
const times = fc.integer({ min: 0, max: 2e12 });
const cutOff = fc.array(name, { maxLength: 3 });

const rotations: fc.Arbitrary<Rotation> = fc.record(
  {
    number: fc.integer({ min: 10, max: 1_000 }),
    kind: fc.constantFrom(...ROTATION_KINDS),
    upstream: fc.constantFrom('self', 'vault'),
    fromAnchorId: fc.constantFrom('ab', pool.anchors[0]!.id),
    goalAnchorId: fc.constantFrom(null, pool.anchors[0]!.id),
    startedAtMs: times,
    deadlineMs: fc.option(times),
    pausedAtMs: fc.option(times),
    abortedAtMs: fc.option(times),
    removedSequence: fc.constantFrom(null, 3),
    excused: fc.array(
      fc.record({ instance: name, name, atMs: times, by: name, reason: name }, { noNullPrototype: true }),
      {
        maxLength: 3,
      },
    ),
    cutOff,
    cutOffCount: fc.integer({ min: 3, max: 100 }),
    by: name,
    reason: name,
  },
  { noNullPrototype: true },
);

const pastRotations: fc.Arbitrary<PastRotation> = fc.record(
  {
    number: fc.constant(1),
    kind: fc.constantFrom(...ROTATION_KINDS),
    upstream: fc.constantFrom('self', 'disk'),
    fromAnchorId: fc.constant('ab'),
    goalAnchorId: fc.constantFrom(null, 'cd'),
    startedAtMs: times,
    endedAtMs: times,
    outcome: fc.constantFrom(...ROTATION_OUTCOMES),
    excused: fc.array(name, { maxLength: 3 }),
    cutOff,
    cutOffCount: fc.integer({ min: 3, max: 100 }),
    by: name,
    reason: name,
  },
  { noNullPrototype: true },
);

/** States that can be: any number of authorities in any phases that may stand together. */
const states: fc.Arbitrary<TrustState> = fc
  .record({
    sequence: fc.integer({ min: 3, max: Number.MAX_SAFE_INTEGER }),
    trustDomain: fc.constantFrom('example.org', 'a', 'x'.repeat(255)),
    anchors: fc.integer({ min: 1, max: 3 }),
    activeAnchor: fc.integer({ min: 0, max: 3 }),
    issuers: fc.array(fc.tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 2 })), {
      maxLength: 9,
    }),
    activeIssuer: fc.integer({ min: 0, max: 9 }),
    phases: fc.array(fc.constantFrom('prepared', 'retired'), { minLength: 12, maxLength: 12 }),
    taints: fc.array(fc.option(fc.integer({ min: 0, max: 2e12 })), { minLength: 12, maxLength: 12 }),
    times: fc.array(fc.integer({ min: 0, max: 253_402_300_799_000 }), { minLength: 12, maxLength: 12 }),
    upstream: fc.constantFrom('self', 'disk', 'vault', 'kedge'),
    discarded: fc.integer({ min: 0, max: 3 }),
    intermediates: fc.integer({ min: 0, max: 3 }),
    rotation: fc.option(rotations),
    past: fc.array(pastRotations, { maxLength: 4 }),
    declinedAnchors: fc.array(fc.constantFrom('ab', 'cdef'), { maxLength: 2 }),
  })
  .map((r): TrustState => {
    const details = (i: number) => ({ phaseSinceMs: r.times[i]!, taintedAtMs: r.taints[i]! });
    const anchors = pool.anchors.slice(0, r.anchors).map(
      (anchor, i): Anchor => ({
        ...anchor,
        ...details(i),
        phase: i === r.activeAnchor ? 'active' : r.phases[i]!,
        upstream: r.upstream,
        sinceSequence: i + 1,
        key: r.upstream === 'self' ? anchor.key : null,
      }),
    );
    const chosen = new Map(r.issuers.map(([a, k]) => [`${a}.${k}`, pool.issuers[a]![k]!]));
    const issuers = [...chosen.values()]
      .filter(({ anchorId }) => anchors.some(({ id }) => id === anchorId))
      .map((issuer, i): Issuer => {
        const isPrepared = anchors.find(({ id }) => id === issuer.anchorId)!.phase === 'prepared';
        const phase = i === r.activeIssuer ? 'active' : r.phases[3 + i]!;
        return {
          ...issuer,
          ...details(3 + i),
          phase: isPrepared ? 'prepared' : phase,
          intermediates: Array.from({ length: r.intermediates }, () => issuer.certificate),
        };
      });
    const discardedKeys = Array.from({ length: r.discarded }, (_, i) => emptyHandle(`discarded-${i}`));
    const { trustDomain, sequence, rotation, declinedAnchors } = r;
    const pastRotations = r.past.map((past, i) => ({ ...past, number: i + 1 }));
    return {
      trustDomain,
      sequence,
      anchors,
      issuers,
      discardedKeys,
      rotation,
      pastRotations,
      declinedAnchors,
    };
  });

describe('the trust state as bytes', () => {
  it('reads back to the same state, and the same bytes, whatever the state', () => {
    const roundTrip = fc.property(states, (state) => {
      const encoded = encodeTrustState(state);
      const parsed = parseTrustState(encoded);
      assert.deepEqual(parsed, state);
      assert.ok(Buffer.from(encodeTrustState(parsed)).equals(encoded));
    });
    checkProperty(roundTrip, 300);
  });

  it('has a fixed form: names in order, no spaces, bytes as base64', () => {
    const text = Buffer.from(encodeTrustState(good)).toString();
    const [anchor] = good.anchors;
    assert.ok(
      text.startsWith('{"schema":2,"trustDomain":"example.org","sequence":1,"anchors":[{"id":"'),
      text,
    );
    assert.ok(text.includes(`"certificate":"${Buffer.from(anchor!.certificate).toString('base64')}"`));
    assert.ok(
      text.endsWith('}}],"discardedKeys":[],"rotation":null,"pastRotations":[],"declinedAnchors":[]}'),
      text,
    );
  });

  it('takes nothing along that is not of the state', () => {
    const more = { ...good, extra: 1, issuers: [{ ...good.issuers[0]!, extra: 2 }] };
    assert.ok(Buffer.from(encodeTrustState(more)).equals(encodeTrustState(good)));
  });

  it('refuses to write a state that could not be read back', () => {
    const table = [
      {
        name: 'an authority with other times than its certificate',
        state: { ...good, anchors: [{ ...good.anchors[0]!, notAfterMs: 1_000 }] },
      },
      { name: 'the empty state', state: emptyTrustState('example.org') },
      { name: 'an issuer without its anchor', state: { ...good, anchors: [{ ...pool.anchors[1]! }] } },
      { name: 'a fraction of a sequence', state: { ...good, sequence: 1.5 } },
    ];
    for (const { name, state } of table) {
      assert.throws(() => encodeTrustState(state), { code: 'trust_state_invalid' }, name);
    }
  });

  it('never grows over its limit', async () => {
    const large = new Uint8Array(16 * 1024 - 1).fill(1);
    const discardedKeys = Array.from({ length: 60 }, (_, i) => ({
      ...emptyHandle(`key-${i}`),
      reference: large,
    }));
    const error = expectCode('message_too_large', () => encodeTrustState({ ...good, discardedKeys }));
    assert.match(error.message, new RegExp(`limit is ${LIMITS.trustStateBytes}`));
    expectCode('trust_state_invalid', () => parseTrustState(new Uint8Array(LIMITS.trustStateBytes + 1)));
  });
});

describe('a trust state document of version 1', () => {
  /** What the Kedge before rotations wrote. */
  const versionOne = (state: TrustState): string => {
    const { schema, rotation, pastRotations, declinedAnchors, ...authorities } = documentOf(state);
    assert.deepEqual([schema, rotation, pastRotations, declinedAnchors], [2, null, [], []]);
    return JSON.stringify({ schema: 1, ...authorities });
  };

  it('is read as one in which there was no rotation yet, and written as version 2', () => {
    const parsed = parseTrustState(bytes(versionOne(good)));
    assert.deepEqual(parsed, good);
    assert.match(Buffer.from(encodeTrustState(parsed)).toString(), /^\{"schema":2,/);
  });

  it('is held to its own form: nothing of version 2 in it, no spaces, no other order', () => {
    const text = versionOne(good);
    for (const wrong of [
      text.replace(/\}$/, ',"rotation":null}'),
      text.replace(',', ', '),
      text.replace('"schema":1', '"schema":2'),
      Buffer.from(encodeTrustState(good)).toString().replace('"schema":2', '"schema":1'),
    ]) {
      expectCode('trust_state_invalid', () => parseTrustState(bytes(wrong)));
    }
  });
});

describe('a rotation in a trust state document', () => {
  const rotation: Rotation = {
    number: 2,
    kind: 'planned',
    upstream: 'self',
    fromAnchorId: 'ab',
    goalAnchorId: null,
    startedAtMs: 1,
    deadlineMs: null,
    pausedAtMs: null,
    abortedAtMs: null,
    removedSequence: null,
    excused: [],
    cutOff: [],
    cutOffCount: 0,
    by: 'alice',
    reason: 'yearly',
  };
  const past: PastRotation = {
    number: 1,
    kind: 'planned',
    upstream: 'self',
    fromAnchorId: 'ab',
    goalAnchorId: 'cd',
    startedAtMs: 1,
    endedAtMs: 2,
    outcome: 'completed',
    excused: [],
    cutOff: [],
    cutOffCount: 0,
    by: 'alice',
    reason: 'yearly',
  };
  const table: readonly { name: string; state: Partial<TrustState>; message: RegExp }[] = [
    {
      name: 'with a goal that is no anchor',
      state: { rotation: { ...rotation, goalAnchorId: 'ab' } },
      message: /goal of rotation 2 is no trust anchor/,
    },
    {
      name: 'that waits for a bundle to come',
      state: { rotation: { ...rotation, removedSequence: 2 } },
      message: /waits for bundle 2, and the bundle is 1/,
    },
    {
      name: 'with the number of one that ended',
      state: { rotation, pastRotations: [{ ...past, number: 2 }] },
      message: /rotation 2 comes after rotation 2/,
    },
    {
      name: 'that names more than it counts',
      state: { rotation: { ...rotation, cutOff: ['shop/cart'] } },
      message: /rotation 2 names more instances than it counts/,
    },
    {
      name: 'with a line break in the reason',
      state: { rotation: { ...rotation, reason: 'a\nb' } },
      message: /control characters/,
    },
    {
      name: 'after more than are remembered',
      state: { pastRotations: Array.from({ length: 17 }, (_, i) => ({ ...past, number: i + 1 })) },
      message: /pastRotations/,
    },
  ];
  for (const { name, state, message } of table) {
    it(`is refused ${name}`, () => {
      const error = expectCode('trust_state_invalid', () => encodeTrustState({ ...good, ...state }));
      assert.match(error.message, message);
    });
  }
});

describe('a trust state document that is wrong', () => {
  const edits: readonly { name: string; edit: (document: Document) => void; message: RegExp }[] = [
    { name: 'schema 0', edit: (d) => void (d['schema'] = 0), message: /schema/ },
    { name: 'a schema that is no number', edit: (d) => void (d['schema'] = '1'), message: /schema/ },
    { name: 'no schema', edit: (d) => void delete d['schema'], message: /schema/ },
    { name: 'an unknown name', edit: (d) => void (d['more'] = 1), message: /more/ },
    {
      name: 'an unknown name in an issuer',
      edit: (d) => void (d.issuers[0]!['more'] = 1),
      message: /issuers\.0/,
    },
    {
      name: 'an unknown name in a key',
      edit: (d) => void (d.issuers[0]!.key['more'] = 1),
      message: /issuers\.0\.key/,
    },
    { name: 'no anchors', edit: (d) => void (d.anchors = []), message: /anchors/ },
    {
      name: 'no list of discarded keys',
      edit: (d) => void delete (d as { discardedKeys?: Json }).discardedKeys,
      message: /discardedKeys/,
    },
    { name: 'sequence 0', edit: (d) => void (d['sequence'] = 0), message: /sequence/ },
    { name: 'a sequence that is no integer', edit: (d) => void (d['sequence'] = 1.5), message: /sequence/ },
    { name: 'a sequence over 2^53', edit: (d) => void (d['sequence'] = 2 ** 60), message: /sequence/ },
    {
      name: 'a trust domain that is none',
      edit: (d) => void (d['trustDomain'] = 'Example.org'),
      message: /not a trust domain/,
    },
    { name: 'an empty trust domain', edit: (d) => void (d['trustDomain'] = ''), message: /trustDomain/ },
    { name: 'an unknown phase', edit: (d) => void (d.anchors[0]!['phase'] = 'removed'), message: /phase/ },
    {
      name: 'an unknown upstream',
      edit: (d) => void (d.anchors[0]!['upstream'] = 'god'),
      message: /upstream/,
    },
    {
      name: 'an unknown key manager',
      edit: (d) => void (d.issuers[0]!.key['manager'] = 'x'),
      message: /manager/,
    },
    {
      name: 'an unknown algorithm',
      edit: (d) => void (d.issuers[0]!.key['algorithm'] = 'constructor'),
      message: /algorithm/,
    },
    {
      name: 'a negative time',
      edit: (d) => void (d.issuers[0]!['phaseSinceMs'] = -1),
      message: /phaseSinceMs/,
    },
    {
      name: 'a time after the year 9999',
      edit: (d) => void (d.issuers[0]!['taintedAtMs'] = 3e14),
      message: /taintedAtMs/,
    },
    {
      name: 'a fraction of a millisecond',
      edit: (d) => void (d.issuers[0]!['phaseSinceMs'] = 0.5),
      message: /phaseSinceMs/,
    },
    {
      name: 'an id in upper case',
      edit: (d) => void (d.issuers[0]!['id'] = 'AB'),
      message: /lower-case hex/,
    },
    {
      name: 'an id of half a byte',
      edit: (d) => void (d.issuers[0]!['id'] = 'abc'),
      message: /lower-case hex/,
    },
    {
      name: 'a key id with a slash',
      edit: (d) => void (d.issuers[0]!.key['id'] = '../key'),
      message: /key\.id/,
    },
    {
      name: 'an issuer without a key',
      edit: (d) => void ((d.issuers[0] as { key: Json }).key = null),
      message: /key/,
    },
    {
      name: 'base64 with a space',
      edit: (d) => void (d.issuers[0]!.key['reference'] = 'AQ ID'),
      message: /base64/,
    },
    {
      name: 'base64 for URLs',
      edit: (d) => void (d.issuers[0]!.key['reference'] = 'AQI_'),
      message: /base64/,
    },
    { name: 'empty bytes', edit: (d) => void (d.issuers[0]!.key['reference'] = ''), message: /reference/ },
    {
      name: 'base64 with bits that count for nothing',
      edit: (d) => void (d.issuers[0]!.key['reference'] = 'AQJ='),
      message: /one form/,
    },
    {
      name: 'base64 without its padding',
      edit: (d) => void (d.issuers[0]!.key['reference'] = 'AQI'),
      message: /one form/,
    },
    {
      name: 'a reference that is too long',
      edit: (d) => void (d.issuers[0]!.key['reference'] = 'A'.repeat(30_000)),
      message: /reference/,
    },
    {
      name: 'a certificate that is none',
      edit: (d) => void (d.anchors[0]!['certificate'] = 'AQID'),
      message: /a certificate in it cannot be read/,
    },
    {
      name: 'the certificate of another authority',
      edit: (d) => void (d.anchors[0]!['certificate'] = d.issuers[0]!['certificate']!),
      message: /not the subject key identifier/,
    },
    {
      name: 'the id of nobody',
      edit: (d) => void (d.issuers[0]!['id'] = 'ab'),
      message: /not the subject key identifier/,
    },
    {
      name: 'a public key that is not the one of the certificate',
      edit: (d) => void (d.issuers[0]!.key['spki'] = (d.anchors[0] as { key: { spki: string } }).key.spki),
      message: /not the one in its certificate/,
    },
    { name: 'an anchor twice', edit: (d) => void d.anchors.push(d.anchors[0]!), message: /two authorities/ },
    { name: 'an issuer twice', edit: (d) => void d.issuers.push(d.issuers[0]!), message: /two authorities/ },
    {
      name: 'a discarded key that is still used',
      edit: (d) => void d.discardedKeys.push(d.issuers[0]!.key),
      message: /two keys/,
    },
    {
      name: 'an issuer of no anchor',
      edit: (d) => void (d.issuers[0]!['anchorId'] = 'ab'),
      message: /under no trust anchor/,
    },
    {
      name: 'an active issuer under an anchor that is only prepared',
      edit: (d) => void (d.anchors[0]!['phase'] = 'prepared'),
      message: /only prepared/,
    },
    {
      name: 'an anchor of a bundle to come',
      edit: (d) => void (d.anchors[0]!['sinceSequence'] = 2),
      message: /bundles from 2 on/,
    },
  ];
  for (const { name, edit, message } of edits) {
    it(`is refused: ${name}`, () => {
      const document = documentOf(good);
      edit(document);
      const error = expectCode('trust_state_invalid', () => parseTrustState(bytes(JSON.stringify(document))));
      assert.match(error.message, message);
      assert.match(error.hint ?? '', /backup/);
    });
  }

  it('is refused: two active issuers, two active anchors; but not when all but one are tainted', () => {
    const [first, second] = pool.issuers[0]!;
    const [one, two] = pool.anchors;
    const issuers = [first!, second!].map((issuer): Issuer => ({ ...issuer, phase: 'active' }));
    const anchors = [one!, two!].map((anchor): Anchor => ({ ...anchor, phase: 'active' }));
    const both = [
      { ...good, issuers },
      { ...good, anchors },
    ];
    for (const state of both) {
      assert.match(
        expectCode('trust_state_invalid', () => encodeTrustState(state)).message,
        /2 .* are active/,
      );
    }
    encodeTrustState({ ...good, issuers: [issuers[0]!, { ...issuers[1]!, taintedAtMs: 1 }] });
    encodeTrustState({ ...good, anchors: [anchors[0]!, { ...anchors[1]!, taintedAtMs: 1 }] });
  });

  it('is refused: a certificate without a subject key identifier', async () => {
    const anchor = await makeAnchor({ extensions: { subjectKeyId: null } });
    const state = { ...good, anchors: [{ ...good.anchors[0]!, certificate: anchor.der, key: null }] };
    const error = expectCode('trust_state_invalid', () => encodeTrustState(state));
    assert.match(error.message, /subject key identifier/);
  });

  it('is refused: more authorities than the limits allow', async () => {
    const document = documentOf(good);
    document.issuers = Array.from({ length: LIMITS.trustStateIssuers + 1 }, () => document.issuers[0]!);
    expectCode('trust_state_invalid', () => parseTrustState(bytes(JSON.stringify(document))));
    const intermediate = (await makeIssuer(await makeAnchor())).der;
    const intermediates = Array.from({ length: LIMITS.chainCertificates - 1 }, () => intermediate);
    const issuers = [{ ...good.issuers[0]!, intermediates }];
    expectCode('trust_state_invalid', () => encodeTrustState({ ...good, issuers }));
  });

  it('is refused: bytes that are not the one JSON text that Kedge writes', () => {
    const text = Buffer.from(encodeTrustState(good)).toString();
    const table = [
      { name: 'nothing', bytes: bytes('') },
      { name: 'half of it', bytes: bytes(text.slice(0, text.length / 2)) },
      { name: 'something after it', bytes: bytes(`${text}x`) },
      { name: 'a line break after it', bytes: bytes(`${text}\n`) },
      { name: 'a byte order mark', bytes: bytes(`\ufeff${text}`) },
      { name: 'spaces', bytes: bytes(JSON.stringify(JSON.parse(text), null, 1)) },
      { name: 'a name twice', bytes: bytes(text.replace('"schema":2', '"schema":2,"schema":2')) },
      { name: '__proto__', bytes: bytes(text.replace('"schema":2', '"schema":2,"__proto__":{"x":1}')) },
      {
        name: 'another order',
        bytes: bytes(text.replace(/"schema":2,("trustDomain":"[^"]*")/, '$1,"schema":2')),
      },
      { name: 'an escape that need not be', bytes: bytes(text.replace('example', '\\u0065xample')) },
      { name: 'a number written otherwise', bytes: bytes(text.replace('"sequence":1', '"sequence":1.0')) },
      {
        name: 'bytes that are not UTF-8',
        bytes: Buffer.concat([bytes(text.slice(0, -1)), Buffer.of(0xff), bytes('}')]),
      },
      { name: 'UTF-16', bytes: Buffer.from(text, 'utf16le') },
      { name: 'null', bytes: bytes('null') },
      { name: 'a list', bytes: bytes('[]') },
      { name: 'a deep one', bytes: bytes('['.repeat(100_000)) },
    ];
    for (const { name, bytes } of table) {
      assert.throws(() => parseTrustState(bytes), { code: 'trust_state_invalid' }, name);
    }
  });

  it('is told apart from one of a newer Kedge', () => {
    for (const document of [
      { schema: 3 },
      { ...documentOf(good), schema: 7 },
      { schema: 3, anchors: 'elsewhere' },
    ]) {
      const parse = (): unknown => parseTrustState(bytes(JSON.stringify(document)));
      assert.match(expectCode('store_newer_version', parse).hint ?? '', /newer Kedge/);
    }
  });

  it('never passes, and never crashes the parser, with any byte of it changed', () => {
    const encoded = encodeTrustState(good);
    const flips = fc.property(fc.nat(encoded.length - 1), fc.integer({ min: 1, max: 255 }), (at, mask) => {
      const altered = Uint8Array.from(encoded);
      altered[at] = altered[at]! ^ mask;
      try {
        // What is sealed or signed is checked by whoever uses it: here only the shape must hold.
        assert.notDeepEqual(parseTrustState(altered), good);
      } catch (error) {
        assert.ok(isKedgeError(error, 'trust_state_invalid', 'store_newer_version'), String(error));
      }
    });
    checkProperty(flips, 2_000);
  });

  it('keeps keys out of its messages', () => {
    const document = documentOf(good);
    document.issuers[0]!.key['reference'] = 'SECRET SECRET';
    const parse = (): unknown => parseTrustState(bytes(JSON.stringify(document)));
    const error = expectCode('trust_state_invalid', parse);
    assert.ok(!JSON.stringify([error.message, error.hint, String(error.cause)]).includes('SECRET'));
    const broken = expectCode('trust_state_invalid', () => parseTrustState(bytes('{"SECRET" SECRET')));
    assert.ok(!JSON.stringify([broken.message, broken.hint, String(broken.cause)]).includes('SECRET'));
  });
});
