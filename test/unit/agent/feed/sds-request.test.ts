import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { readDeltaRequest, readSotwRequest } from '../../../../agent/feed/sds-request.ts';
import { SECRET_TYPE_URL } from '../../../../agent/feed/sds-resources.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import type { ErrorCode } from '../../../../pki/error-table.ts';
import {
  DeltaDiscoveryRequest,
  DiscoveryRequest,
} from '../../../../proto/gen/envoy/service/discovery/v3/discovery.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { checkProperty } from '../../../support/property.ts';

const SOTW: DiscoveryRequest = {
  versionInfo: '',
  node: undefined,
  resourceNames: [],
  typeUrl: '',
  responseNonce: '',
  errorDetail: undefined,
  resourceLocators: [],
};
const DELTA: DeltaDiscoveryRequest = {
  node: undefined,
  typeUrl: '',
  resourceNamesSubscribe: [],
  resourceNamesUnsubscribe: [],
  initialResourceVersions: {},
  responseNonce: '',
  errorDetail: undefined,
  resourceLocatorsSubscribe: [],
  resourceLocatorsUnsubscribe: [],
};
const NODE = {
  id: 'envoy-1',
  cluster: '',
  metadata: undefined,
  userAgentName: '',
  userAgentVersionType: undefined,
};
const sotw = (more: Partial<DiscoveryRequest>): Uint8Array =>
  DiscoveryRequest.encode({ ...SOTW, ...more }).finish();
const delta = (more: Partial<DeltaDiscoveryRequest>): Uint8Array =>
  DeltaDiscoveryRequest.encode({ ...DELTA, ...more }).finish();

const NAMES_10_000 = Array.from({ length: 10_000 }, (_, i) => `n${i}`);
const CERT_NAME = 'file-cert:/etc/shadow~/etc/shadow';

/** Field number, wire type 2, and the bytes. */
const field = (number: number, bytes: Uint8Array): Uint8Array => {
  const length: number[] = [];
  for (let rest = bytes.length; ; rest >>>= 7) {
    length.push(rest > 127 ? (rest & 127) | 128 : rest);
    if (rest <= 127) break;
  }
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), bytes]);
};

describe('a DiscoveryRequest', () => {
  it('is read', () => {
    const request = readSotwRequest(
      sotw({
        versionInfo: '3',
        node: NODE,
        resourceNames: ['default', '', 'ROOTCA', 'default'],
        typeUrl: SECRET_TYPE_URL,
        responseNonce: 'abc',
        errorDetail: { code: 3, message: 'no good', details: [] },
      }),
      false,
    );
    assert.deepEqual(request, {
      node: { name: 'envoy-1', form: 'spiffe' },
      names: new Set(['default', 'ROOTCA']),
      version: '3',
      nonce: 'abc',
      nack: 'no good',
    });
  });

  it('that is empty asks for everything', () => {
    assert.deepEqual(readSotwRequest(new Uint8Array(), true), {
      node: null,
      names: new Set(),
      version: '',
      nonce: '',
      nack: null,
    });
  });

  it('is read past everything that is not of interest: the extensions of a real Envoy, nested metadata', () => {
    const extension = field(9, field(1, Buffer.from('envoy.filters.http.router')));
    let nested: Uint8Array = field(3, Buffer.from('deep'));
    for (let depth = 0; depth < 2_000; depth += 1) nested = field(5, field(1, field(2, nested)));
    const entry = field(1, Buffer.concat([field(1, Buffer.from('k')), field(2, nested)]));
    const node = Buffer.concat([
      field(1, Buffer.from('envoy-1')),
      ...Array.from({ length: 400 }, () => extension),
      field(3, entry),
    ]);
    const request = readSotwRequest(Buffer.concat([field(2, node), field(3, Buffer.from('default'))]), false);
    assert.deepEqual(request.node, { name: 'envoy-1', form: 'spiffe' });
    assert.deepEqual(request.names, new Set(['default']));
  });

  it('with an error_detail of 200 KiB is read, and what is kept of it is short', () => {
    const message = 'no good '.repeat(25_000);
    const { nack } = readSotwRequest(sotw({ errorDetail: { code: 3, message, details: [] } }), false);
    assert.ok(nack !== null && nack.length <= 203);
  });
});

describe('a DeltaDiscoveryRequest', () => {
  it('is read', () => {
    const version = '0123456789abcdef0123456789abcdef';
    const request = readDeltaRequest(
      delta({
        resourceNamesSubscribe: ['default', ''],
        resourceNamesUnsubscribe: ['ROOTCA'],
        initialResourceVersions: { default: version, ROOTCA: 'x'.repeat(1_000) },
        responseNonce: 'abc',
      }),
      false,
    );
    assert.deepEqual(request, {
      node: null,
      subscribe: new Set(['default']),
      unsubscribe: new Set(['ROOTCA']),
      initialVersions: new Map([
        ['default', version],
        ['ROOTCA', 'not ours'],
      ]),
      nonce: 'abc',
      nack: null,
    });
  });
});

describe('what an SDS request may not have', () => {
  const locators = [{ name: 'default' }];
  const CASES: readonly {
    name: string;
    code: ErrorCode;
    sotw?: Uint8Array;
    delta?: Uint8Array;
  }[] = [
    {
      name: 'another type URL',
      code: 'sds_type_url_unsupported',
      sotw: sotw({ typeUrl: 'type.googleapis.com/envoy.config.cluster.v3.Cluster' }),
      delta: delta({ typeUrl: 'type.googleapis.com/envoy.config.cluster.v3.Cluster' }),
    },
    {
      name: 'the type URL of API version 2',
      code: 'sds_type_url_unsupported',
      sotw: sotw({ typeUrl: 'type.googleapis.com/envoy.api.v2.auth.Secret' }),
    },
    {
      name: 'a type URL of 100 KiB',
      code: 'sds_type_url_unsupported',
      sotw: sotw({ typeUrl: 'x'.repeat(100_000) }),
    },
    {
      name: '10,000 names',
      code: 'sds_names_exceeded',
      sotw: sotw({ resourceNames: NAMES_10_000 }),
      delta: delta({ resourceNamesSubscribe: NAMES_10_000 }),
    },
    {
      name: '10,000 times the same name',
      code: 'sds_names_exceeded',
      sotw: sotw({ resourceNames: NAMES_10_000.map(() => 'default') }),
      delta: delta({ resourceNamesUnsubscribe: NAMES_10_000 }),
    },
    {
      name: '10,000 initial versions',
      code: 'sds_names_exceeded',
      delta: delta({ initialResourceVersions: Object.fromEntries(NAMES_10_000.map((name) => [name, ''])) }),
    },
    {
      name: 'a name that is longer than any SPIFFE ID',
      code: 'message_too_large',
      sotw: sotw({ resourceNames: ['x'.repeat(2_305)] }),
      delta: delta({ initialResourceVersions: { ['x'.repeat(2_305)]: '' } }),
    },
    {
      name: 'many long names',
      code: 'message_too_large',
      sotw: sotw({ resourceNames: NAMES_10_000.slice(0, 17).map((name) => name.padEnd(2_000, 'x')) }),
      delta: delta({
        resourceNamesUnsubscribe: NAMES_10_000.slice(0, 17).map((name) => name.padEnd(2_000, 'x')),
      }),
    },
    {
      name: 'a name of 33 KiB',
      code: 'message_too_large',
      sotw: sotw({ resourceNames: ['x'.repeat(33 * 1024)] }),
      delta: delta({ resourceNamesSubscribe: ['x'.repeat(33 * 1024)] }),
    },
    {
      name: 'more bytes than are read',
      code: 'message_too_large',
      sotw: sotw({ versionInfo: 'x'.repeat(256 * 1024) }),
      delta: delta({ responseNonce: 'x'.repeat(256 * 1024) }),
    },
    {
      name: 'resource locators, which alone would read as no names',
      code: 'sds_name_unsupported',
      sotw: sotw({ resourceLocators: locators }),
      delta: delta({ resourceLocatorsSubscribe: locators }),
    },
    {
      name: "one of Istio's names",
      code: 'sds_name_unsupported',
      sotw: sotw({ resourceNames: ['default', CERT_NAME] }),
      delta: delta({ resourceNamesSubscribe: [CERT_NAME] }),
    },
    {
      name: 'bytes that are no protobuf',
      code: 'message_malformed',
      sotw: Buffer.from('ffff', 'hex'),
      delta: Buffer.from('ffff', 'hex'),
    },
    {
      name: 'a field that ends behind the message',
      code: 'message_malformed',
      sotw: Buffer.from('1aff01', 'hex'),
      delta: Buffer.from('1aff01', 'hex'),
    },
    {
      name: 'groups nested 200,000 deep',
      code: 'message_malformed',
      sotw: Buffer.alloc(200_000, 0x7b),
      delta: Buffer.alloc(200_000, 0x7b),
    },
  ];
  for (const { name, code, ...bytes } of CASES) {
    it(`${name}: ${code}`, () => {
      if (bytes.sotw !== undefined) expectCode(code, () => readSotwRequest(bytes.sotw ?? SOTW_NONE, false));
      if (bytes.delta !== undefined)
        expectCode(code, () => readDeltaRequest(bytes.delta ?? SOTW_NONE, false));
    });
  }
  const SOTW_NONE = new Uint8Array();

  it('any bytes at all: they are read, or refused with a code', () => {
    const attempt = (read: () => unknown): void => {
      try {
        read();
      } catch (error) {
        assert.ok(isKedgeError(error));
      }
    };
    checkProperty(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        attempt(() => readSotwRequest(bytes, false));
        attempt(() => readDeltaRequest(bytes, false));
      }),
      2_000,
    );
  });
});
