import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { readReport } from '../../../../ca/fleet/reported-state.ts';
import { isKedgeError } from '../../../../pki/kedge-error.ts';
import {
  type ConsumerReport,
  type Evidence,
  type FeedReport,
  type HeldSvid,
  Report,
} from '../../../../proto/gen/kedge/v1/identity.ts';
import { expectCode } from '../../../support/expect-code.ts';
import { checkProperty } from '../../../support/property.ts';

const FEED: FeedReport = {
  name: 'workload-api',
  evidence: 2,
  bundleSequence: 4n,
  svidSerialNumber: Buffer.from('7f01', 'hex'),
  errorCode: '',
  consumers: [],
  consumerCount: 0,
};
const CONSUMER: ConsumerReport = {
  name: 'envoy-1',
  best: 2,
  delivered: { bundleSequence: 4n, svidSerialNumber: Buffer.from('7f01', 'hex') },
  loaded: undefined,
  proven: undefined,
  errorCode: 'feed_failed',
};
const SVID: HeldSvid = {
  serialNumber: Buffer.from('7f01', 'hex'),
  authorityKeyId: Buffer.from('abcd', 'hex'),
  notAfterMs: 1_800_000_000_000n,
};
const reportOf = (change: Partial<Report> = {}): Report => ({
  agentVersion: '0.1.0',
  bundleSequence: 4n,
  svid: SVID,
  clockSkewMs: -12n,
  feeds: [FEED],
  ...change,
});

describe('a report', () => {
  it('is read whole', () => {
    assert.deepEqual(readReport(reportOf()), {
      agentVersion: '0.1.0',
      bundleSequence: 4,
      svid: { serialNumber: '7f01', authorityKeyId: 'abcd', notAfterMs: 1_800_000_000_000 },
      clockSkewMs: -12,
      feeds: [
        {
          name: 'workload-api',
          evidence: 2,
          bundleSequence: 4,
          svidSerialNumber: '7f01',
          errorCode: '',
          consumers: [],
          consumerCount: 0,
        },
      ],
    });
  });

  it('says of each consumer what it holds at each grade', () => {
    const { feeds } = readReport(reportOf({ feeds: [{ ...FEED, consumers: [CONSUMER], consumerCount: 1 }] }));
    assert.deepEqual(feeds[0]?.consumers, [
      {
        name: 'envoy-1',
        best: 2,
        delivered: { bundleSequence: 4, svidSerialNumber: '7f01' },
        loaded: null,
        proven: null,
        errorCode: 'feed_failed',
      },
    ]);
  });

  it('of an agent that has nothing yet is one too', () => {
    const { svid, clockSkewMs, feeds } = readReport(
      reportOf({ svid: undefined, clockSkewMs: undefined, feeds: [] }),
    );
    assert.deepEqual([svid, clockSkewMs, feeds], [null, null, []]);
  });

  const feed = (change: Partial<FeedReport>): Partial<Report> => ({ feeds: [{ ...FEED, ...change }] });
  const consumers = (list: readonly ConsumerReport[]): Partial<Report> => feed({ consumers: [...list] });
  const held = (change: Partial<HeldSvid>): Partial<Report> => ({ svid: { ...SVID, ...change } });
  const rows: readonly { readonly name: string; readonly change: Partial<Report>; readonly field: RegExp }[] =
    [
      {
        name: 'nine consumers of a feed',
        change: consumers(Array.from({ length: 9 }, () => CONSUMER)),
        field: /consumers/,
      },
      {
        name: 'a consumer with no name',
        change: consumers([{ ...CONSUMER, name: '' }]),
        field: /consumers.name/,
      },
      {
        name: 'a consumer whose name holds a line break',
        change: consumers([{ ...CONSUMER, name: 'a\nb' }]),
        field: /consumers.name/,
      },
      {
        name: 'a consumer with a grade that there is not',
        change: consumers([{ ...CONSUMER, best: 4 as Evidence }]),
        field: /consumers.best/,
      },
      {
        name: 'a consumer with an error code that there is not',
        change: consumers([{ ...CONSUMER, errorCode: 'no_such_code' }]),
        field: /consumers.error_code/,
      },
      {
        name: 'a consumer that holds an SVID without a serial number',
        change: consumers([
          { ...CONSUMER, loaded: { bundleSequence: 1n, svidSerialNumber: new Uint8Array(0) } },
        ]),
        field: /consumers.svid_serial_number/,
      },
      {
        name: 'an agent version of 65 characters',
        change: { agentVersion: 'v'.repeat(65) },
        field: /agent_version/,
      },
      {
        name: 'an agent version with a line break',
        change: { agentVersion: 'a\nb' },
        field: /agent_version/,
      },
      {
        name: 'a bundle sequence that no number holds',
        change: { bundleSequence: 1n << 60n },
        field: /bundle_sequence/,
      },
      {
        name: 'a skew of a thousand years',
        change: { clockSkewMs: 31_536_000_000_000n },
        field: /clock_skew_ms/,
      },
      {
        name: 'a serial number without a byte',
        change: held({ serialNumber: new Uint8Array(0) }),
        field: /serial_number/,
      },
      {
        name: 'a serial number of 21 bytes',
        change: held({ serialNumber: new Uint8Array(21) }),
        field: /serial_number/,
      },
      {
        name: 'a key id of 65 bytes',
        change: held({ authorityKeyId: new Uint8Array(65) }),
        field: /authority_key_id/,
      },
      { name: 'an SVID that ended before 1970', change: held({ notAfterMs: -1n }), field: /not_after_ms/ },
      {
        name: 'an SVID that ends after the year 9999',
        change: held({ notAfterMs: 253_402_300_800_000n }),
        field: /not_after_ms/,
      },
      {
        name: '17 feeds',
        change: { feeds: Array.from({ length: 17 }, (_, i) => ({ ...FEED, name: `f${i}` })) },
        field: /feeds has 17/,
      },
      { name: 'a feed named twice', change: { feeds: [FEED, FEED] }, field: /names a feed twice/ },
      { name: 'a feed without a name', change: feed({ name: '' }), field: /feeds.name/ },
      { name: 'a feed name with a quote', change: feed({ name: 'a"b' }), field: /feeds.name "a\\"b"/ },
      {
        name: 'a grade of evidence that there is not',
        change: feed({ evidence: 9 as never }),
        field: /feeds.evidence/,
      },
      {
        name: 'an error code that there is not',
        change: feed({ errorCode: 'toString' }),
        field: /feeds.error_code/,
      },
      {
        name: 'a feed serial number of 21 bytes',
        change: feed({ svidSerialNumber: new Uint8Array(21) }),
        field: /svid_serial_number/,
      },
    ];
  for (const { name, change, field } of rows) {
    it(`with ${name} is refused, the field named`, () => {
      assert.match(expectCode('report_invalid', () => readReport(reportOf(change))).message, field);
    });
  }

  it('of any bytes is read or refused with report_invalid', () => {
    checkProperty(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        let report: Report;
        try {
          report = Report.decode(bytes);
        } catch {
          return;
        }
        try {
          readReport(report);
        } catch (error) {
          assert.ok(isKedgeError(error, 'report_invalid'));
        }
      }),
      2_000,
    );
  });
});
