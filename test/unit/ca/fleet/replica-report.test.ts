import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import {
  encodeReplicaReport,
  materialKey,
  parseReplicaReport,
  type ReplicaReport,
} from '../../../../ca/fleet/replica-report.ts';
import type { FleetInstance } from '../../../../ca/fleet/instance.ts';
import { systemRandom } from '../../../../host/random.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import { LIMITS } from '../../../../pki/limits.ts';
import { Evidence } from '../../../../proto/gen/kedge/v1/identity.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { fleetInstance, reported } from '../../../support/fleet-instances.ts';
import { checkProperty } from '../../../support/property.ts';

const failing = (name: string, errorCode: string) => ({
  name,
  errorCode,
  evidence: Evidence.EVIDENCE_UNSPECIFIED,
  bundleSequence: 0,
  svidSerialNumber: '',
  consumers: [],
  consumerCount: 0,
});

const report = (instances: readonly FleetInstance[]): ReplicaReport => ({
  replica: 'kedge-ca-0',
  writtenAtMs: 1_767_225_600_000,
  trust: '7 aabb',
  ended: false,
  instances,
});

const all = report([
  fleetInstance('a', {
    connected: true,
    lastSeenMs: 5_000,
    report: reported(3, 'aa', 90_000, [failing('files', 'hook_failed')]),
  }),
  fleetInstance('b', { issued: { serialNumber: '', authorityKeyId: 'bb', notAfterMs: 80_000 } }),
  fleetInstance('c', { cluster: 'c2', report: { ...reported(2), svid: null } }),
]);

describe('a report of one replica to the others', () => {
  it('says of each instance what gates ask for, and whose names the readers cannot know', () => {
    const read = parseReplicaReport(encodeReplicaReport(all, ({ id }) => id === 'c'));
    const nameless = { spiffeId: '', namespace: '', podName: '' };
    assert.deepEqual(read, {
      ...all,
      instances: all.instances.map((one) => (one.id === 'c' ? one : { ...one, ...nameless })),
    });
  });

  it('leaves out serial numbers, versions, clocks and consumers', () => {
    const chatty = {
      ...reported(3, 'aa', 90_000, [failing('files', '')]),
      agentVersion: '0.1.0',
      clockSkewMs: 17,
    };
    const [read] = parseReplicaReport(
      encodeReplicaReport(report([fleetInstance('a', { report: chatty })]), () => true),
    ).instances;
    assert.deepEqual(read?.report, reported(3, 'aa', 90_000));
  });

  it('of 20,000 agents with random UIDs is well below what a ConfigMap may have', () => {
    const instances = Array.from({ length: 20_000 }, (_, i) => {
      const uid = Buffer.from(systemRandom.bytes(16)).toString('hex');
      const id = [
        uid.slice(0, 8),
        uid.slice(8, 12),
        uid.slice(12, 16),
        uid.slice(16, 20),
        uid.slice(20),
      ].join('-');
      return fleetInstance(id, {
        connected: true,
        lastSeenMs: 1_767_225_600_000 + i * 997,
        report: reported(7, 'ab'.repeat(20), 1_767_300_000_000 + i * 3_000),
        issued: {
          serialNumber: '',
          authorityKeyId: 'ab'.repeat(20),
          notAfterMs: 1_767_300_000_000 + i * 3_000,
        },
      });
    });
    const bytes = encodeReplicaReport(report(instances), () => false);
    assert.ok(bytes.length < LIMITS.fleetReportBytes, `${bytes.length} bytes`);
    assert.equal(parseReplicaReport(bytes).instances.length, 20_000);
  });

  it('is refused when it would be too large, with what to do', () => {
    const instances = Array.from({ length: 50_000 }, () =>
      fleetInstance(Buffer.from(systemRandom.bytes(16)).toString('hex')),
    );
    const error = expectCode('message_too_large', () => encodeReplicaReport(report(instances), () => false));
    assert.match(error.hint ?? '', /more replicas/);
  });

  type Json = Record<string, unknown> & { instances: unknown[][] };
  const rows: readonly { readonly name: string; readonly change: (json: Json) => unknown }[] = [
    { name: 'no object', change: () => null },
    { name: 'of another schema', change: (json) => ({ ...json, schema: 2 }) },
    { name: 'without a replica', change: (json) => ({ ...json, replica: '' }) },
    { name: 'from before time', change: (json) => ({ ...json, writtenAtMs: -1 }) },
    {
      name: 'with an authority that is no key identifier',
      change: (json) => ({ ...json, authorities: ['ZZ'] }),
    },
    { name: 'with instances that are no list', change: (json) => ({ ...json, instances: {} }) },
    { name: 'with an instance that is no list', change: (json) => ({ ...json, instances: [{}] }) },
    {
      name: 'that names an instance twice',
      change: (json) => ({ ...json, instances: [json.instances[0], json.instances[0]] }),
    },
    {
      name: 'of an unknown cluster',
      change: (json) => ({ ...json, instances: [json.instances[0]!.with(0, 9)] }),
    },
    {
      name: 'with a UID that is too long',
      change: (json) => ({ ...json, instances: [json.instances[0]!.with(1, 'x'.repeat(129))] }),
    },
    {
      name: 'with a connection that is neither',
      change: (json) => ({ ...json, instances: [json.instances[0]!.with(2, 2)] }),
    },
    {
      name: 'with an SVID of an unknown authority',
      change: (json) => ({ ...json, instances: [json.instances[1]!.with(4, [9, 1])] }),
    },
    {
      name: 'with an SVID that ends after the year 9999',
      change: (json) => ({ ...json, instances: [json.instances[1]!.with(4, [0, 1e300])] }),
    },
    {
      name: 'with a negative sequence',
      change: (json) => ({ ...json, instances: [json.instances[0]!.with(5, [-1, 0, []])] }),
    },
    {
      name: 'with an error code that is none',
      change: (json) => ({
        ...json,
        instances: [json.instances[0]!.with(5, [1, 0, [['files', 'nonsense']]])],
      }),
    },
    {
      name: 'with __proto__ as an error code',
      change: (json) => ({
        ...json,
        instances: [json.instances[0]!.with(5, [1, 0, [['files', '__proto__']]])],
      }),
    },
  ];
  const json = (): Json => JSON.parse(gunzipSync(encodeReplicaReport(all, () => true)).toString()) as Json;
  for (const { name, change } of rows) {
    it(`is refused ${name}`, () => {
      expectCode('fleet_report_invalid', () => parseReplicaReport(gzipSync(JSON.stringify(change(json())))));
    });
  }

  it('is refused when it is not compressed, cut off, or a bomb', () => {
    const bytes = encodeReplicaReport(all, () => true);
    const bomb = gzipSync(Buffer.alloc(LIMITS.fleetReportJsonBytes + 1, 0x20));
    for (const hostile of [
      new Uint8Array(0),
      Buffer.from('{}'),
      bytes.subarray(0, bytes.length - 9),
      bomb,
      new Uint8Array(LIMITS.fleetReportBytes + 1),
    ]) {
      expectCode('fleet_report_invalid', () => parseReplicaReport(hostile));
    }
  });

  it('of any JSON is read, or refused with fleet_report_invalid', () => {
    const value = fc.oneof(
      fc.json().map((text) => JSON.parse(text) as unknown),
      fc
        .tuple(fc.constantFrom(...Object.keys(json())), fc.jsonValue())
        .map(([key, v]) => ({ ...json(), [key]: v })),
      fc
        .tuple(fc.nat(6), fc.jsonValue())
        .map(([index, v]) => ({ ...json(), instances: [json().instances[0]!.with(index, v)] })),
    );
    checkProperty(
      fc.property(value, (v) => {
        try {
          parseReplicaReport(gzipSync(JSON.stringify(v)));
        } catch (error) {
          assert.ok(isKedgeError(error, 'fleet_report_invalid'), String(error));
        }
      }),
      500,
    );
  });
});

describe('what of a report matters', () => {
  const [a] = all.instances;
  const key = (change: Partial<FleetInstance>): string => materialKey(report([{ ...a!, ...change }]));
  const same = [
    { name: 'when it was heard of', change: { lastSeenMs: 99_000 } },
    {
      name: 'when its SVID ends',
      change: { report: { ...a!.report!, svid: { ...a!.report!.svid!, notAfterMs: 1 } } },
    },
  ];
  for (const { name, change } of same) {
    it(`is not ${name}`, () => assert.equal(key(change), key({})));
  }
  const other = [
    { name: 'which bundle it holds', change: { report: { ...a!.report!, bundleSequence: 4 } } },
    {
      name: 'whose SVID it holds',
      change: { report: { ...a!.report!, svid: { ...a!.report!.svid!, authorityKeyId: 'cc' } } },
    },
    { name: 'that it holds none', change: { report: { ...a!.report!, svid: null } } },
    { name: 'that it is gone', change: { id: 'z' } },
    { name: 'that its agent left', change: { connected: false } },
    { name: 'that a feed works again', change: { report: { ...a!.report!, feeds: [] } } },
  ];
  for (const { name, change } of other) {
    it(`is ${name}`, () => assert.notEqual(key(change), key({})));
  }
});
