import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formOf, nodeNameOf, type SdsForm } from '../../../../agent/feed/sds-form.ts';
import { nackReasonOf } from '../../../../agent/feed/sds-nack.ts';
import { DEFAULT_SDS_NAMES, parseSdsNames, refuseIstioName } from '../../../../agent/feed/sds-names.ts';
import type { Node, NodeMetadataValue } from '../../../../proto/gen/envoy/config/core/v3/base.ts';
import { encodePem } from '../../../../pki/pem.ts';
import { expectCode } from '../../../support/expect-code.ts';

function node(more: Partial<Node>): Node {
  return {
    id: '',
    cluster: '',
    metadata: undefined,
    userAgentName: 'envoy',
    userAgentVersionType: undefined,
    ...more,
  };
}

const disable = (kind: NodeMetadataValue['kind']): Partial<Node> => ({
  metadata: { fields: { disable_spiffe_cert_validation: { kind } } },
});
const text = (value: string): Partial<Node> => disable({ $case: 'stringValue', value });
const flag = (value: boolean): Partial<Node> => disable({ $case: 'boolValue', value });
const version = (majorNumber: number, minorNumber: number): Partial<Node> => ({
  userAgentVersionType: {
    $case: 'userAgentBuildVersion',
    value: { version: { majorNumber, minorNumber, patch: 0 } },
  },
});

describe('the form of validation contexts', () => {
  const CASES: readonly { name: string; node: Partial<Node>; setting?: boolean; want: SdsForm }[] = [
    { name: 'an Envoy that says nothing', node: {}, want: 'spiffe' },
    { name: 'a current Envoy', node: version(1, 35), want: 'spiffe' },
    { name: 'the first Envoy with the validator', node: version(1, 18), want: 'spiffe' },
    { name: 'the last Envoy without it', node: version(1, 17), want: 'plain' },
    { name: 'an Envoy 0.x', node: version(0, 99), want: 'plain' },
    { name: 'an Envoy 2.0', node: version(2, 0), want: 'spiffe' },
    {
      name: 'a build version without a version',
      node: { userAgentVersionType: { $case: 'userAgentBuildVersion', value: { version: undefined } } },
      want: 'spiffe',
    },
    {
      name: 'a version in words',
      node: { userAgentVersionType: { $case: 'userAgentVersion', value: '1.0' } },
      want: 'spiffe',
    },
    { name: 'metadata true', node: flag(true), want: 'plain' },
    { name: 'metadata "true"', node: text('true'), want: 'plain' },
    { name: 'metadata "1"', node: text('1'), want: 'plain' },
    { name: 'metadata "yes", which SPIRE does not read either', node: text('yes'), want: 'spiffe' },
    { name: 'metadata of another type', node: disable(undefined), want: 'spiffe' },
    { name: 'the setting', node: {}, setting: true, want: 'plain' },
    { name: 'the setting, and metadata "yes"', node: text('yes'), setting: true, want: 'plain' },
    { name: 'the setting, and metadata false, which wins', node: flag(false), setting: true, want: 'spiffe' },
    { name: 'the setting, and metadata "False"', node: text('False'), setting: true, want: 'spiffe' },
    { name: 'an old Envoy, whatever it says', node: { ...version(1, 17), ...flag(false) }, want: 'plain' },
    { name: 'metadata under the prototype', node: { metadata: { fields: {} } }, want: 'spiffe' },
  ];
  for (const { name, node: more, setting = false, want } of CASES) {
    it(`is ${want} for ${name}`, () => assert.equal(formOf(node(more), setting), want));
  }
});

describe('the name of a node', () => {
  const CASES: readonly { id: string; want: string }[] = [
    { id: '', want: '' },
    { id: 'sidecar~10.0.0.1~web-1.shop~shop.svc', want: 'sidecar~10.0.0.1~web-1.shop~shop.svc' },
    { id: 'a b\n\u0000é\u{1f600}c', want: 'a_b_____c' },
    { id: 'x'.repeat(200_000), want: 'x'.repeat(56) },
  ];
  for (const { id, want } of CASES) {
    it(`is ${JSON.stringify(want)}`, () => assert.equal(nodeNameOf(node({ id })), want));
  }
});

describe('the SDS names of the settings', () => {
  it('are those of SPIRE by default', () => {
    assert.deepEqual(
      parseSdsNames({ svid: 'default', bundle: 'ROOTCA', allBundles: 'ALL' }),
      DEFAULT_SDS_NAMES,
    );
  });

  it("can be those of Istio's guide for federation: ROOTCA for all bundles, and none for one", () => {
    assert.deepEqual(parseSdsNames({ svid: 'default', bundle: '-', allBundles: 'ROOTCA' }), {
      svid: 'default',
      bundle: null,
      allBundles: 'ROOTCA',
    });
  });

  const REFUSED: readonly { name: string; settings: Parameters<typeof parseSdsNames>[0] }[] = [
    { name: 'a name twice', settings: { svid: 'a', bundle: 'a', allBundles: 'b' } },
    { name: 'a SPIFFE ID', settings: { svid: 'spiffe://example.org/x', bundle: 'b', allBundles: 'c' } },
    { name: 'the wildcard', settings: { svid: '*', bundle: 'b', allBundles: 'c' } },
    { name: 'an empty one', settings: { svid: '', bundle: 'b', allBundles: 'c' } },
    { name: 'a space', settings: { svid: 'a b', bundle: 'b', allBundles: 'c' } },
    { name: 'a long one', settings: { svid: 'a'.repeat(256), bundle: 'b', allBundles: 'c' } },
  ];
  for (const { name, settings } of REFUSED) {
    it(`refuse ${name}`, () => void expectCode('config_invalid', () => parseSdsNames(settings)));
  }
});

describe("Istio's own names", () => {
  const REFUSED: readonly { name: string; says: RegExp }[] = [
    { name: 'file-cert:/etc/certs/cert.pem~/etc/certs/key.pem', says: /let Envoy read the files itself/ },
    { name: 'file-root:/etc/certs/root.pem', says: /`filename` in trusted_ca/ },
    { name: 'file-root:system', says: /ca-certificates\.crt/ },
    { name: 'kubernetes://shop-cert', says: /Istio's control plane/ },
    { name: 'kubernetes-gateway://ns/shop-cert-cacert', says: /Istio's control plane/ },
    { name: 'configmap://ns/roots', says: /Istio's control plane/ },
  ];
  for (const { name, says } of REFUSED) {
    it(`refuse ${name}, and say what to do`, () => {
      const { message, hint } = expectCode('sds_name_unsupported', () => refuseIstioName(name));
      assert.ok(message.includes(name));
      assert.match(hint ?? '', says);
    });
  }

  it('are not taken for what they resemble', () => {
    for (const name of ['default', 'ROOTCA', 'spiffe://example.org', 'file', 'kubernetes'])
      refuseIstioName(name);
  });
});

describe('the reason of a NACK', () => {
  const der = new Uint8Array(200).fill(7);
  const CASES: readonly { name: string; message: string; want: string }[] = [
    {
      name: 'a message of Envoy',
      message: 'Failed to load certificate chain from <inline>, at most 100 allowed',
      want: 'Failed to load certificate chain from <inline>, at most 100 allowed',
    },
    { name: 'no message', message: '', want: 'no reason given' },
    {
      name: 'line breaks and control characters',
      message: 'a\nb\u001b[31mc\u0000é',
      want: 'a b [31mc',
    },
    { name: 'a PEM key', message: `bad: ${encodePem('PRIVATE KEY', der)} end`, want: 'bad: [...] end' },
    {
      name: 'a PEM key that is cut',
      message: `bad: ${encodePem('PRIVATE KEY', der).slice(0, 100)}`,
      want: 'bad: [...]',
    },
    {
      name: 'an escaped PEM key, as a debug string prints it',
      message: `inline_bytes: "${encodePem('PRIVATE KEY', der).replaceAll('\n', '\\n')}"`,
      want: 'inline_bytes: "[...]\\n"',
    },
    { name: 'bare base64', message: `got ${Buffer.from(der).toString('base64')}`, want: 'got [...]' },
    { name: 'bare hex', message: `got ${Buffer.from(der).toString('hex')}`, want: 'got [...]' },
    {
      name: 'a huge message',
      message: 'no '.repeat(80_000),
      want: `${'no '.repeat(67).slice(0, 200)}...`,
    },
  ];
  for (const { name, message, want } of CASES) {
    it(`is bounded and holds no material: ${name}`, () => assert.equal(nackReasonOf(message), want));
  }
});
