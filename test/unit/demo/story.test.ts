import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { WorkloadMessage } from '../../../demo/message.ts';
import { Story, summary } from '../../../demo/story.ts';

const NOW_MS = Date.UTC(2026, 0, 31, 3, 4, 5);

function identity(serial: string, issuer: string): WorkloadMessage {
  return {
    kind: 'identity',
    identity: {
      spiffeId: 'spiffe://demo.example/ns/demo/sa/web',
      serialNumber: serial.repeat(16),
      issuerId: issuer.repeat(20),
      notBeforeMs: NOW_MS,
      notAfterMs: NOW_MS + 30_000,
    },
  };
}
const traffic = (requests: number, failures: number): WorkloadMessage => ({
  kind: 'traffic',
  traffic: { requests, newConnections: 2, failures },
});

describe('Story', () => {
  it('tells the first identity, then each rotation with what was carried so far', () => {
    const story = new Story(['web', 'echo']);
    assert.equal(
      story.line('web', identity('aa', '11'), NOW_MS),
      '03:04:05  web   first X.509-SVID aaaaaaaaaaaa from issuer 111111111111, valid until 03:04:35',
    );
    assert.equal(story.line('web', traffic(40, 0), NOW_MS), undefined);
    assert.equal(
      story.line('web', identity('bb', '11'), NOW_MS),
      '03:04:05  web   X.509-SVID aaaaaaaaaaaa -> bbbbbbbbbbbb, issuer 111111111111, valid until 03:04:35; 40 requests, 0 failures',
    );
    assert.equal(
      story.line('web', identity('cc', '22'), NOW_MS),
      '03:04:05  web   X.509-SVID bbbbbbbbbbbb -> cccccccccccc, ISSUER 111111111111 -> 222222222222, valid until 03:04:35; 40 requests, 0 failures',
    );
  });

  it('counts the rotations of each workload, and the fewest of all', () => {
    const story = new Story(['web', 'echo']);
    for (const serial of ['aa', 'bb', 'cc']) story.line('web', identity(serial, '11'), NOW_MS);
    assert.equal(story.totals.fewestRotations, 0);
    for (const serial of ['dd', 'ee']) story.line('echo', identity(serial, serial), NOW_MS);
    const { svidRotations, issuerRotations, fewestRotations } = story.totals;
    assert.deepEqual([svidRotations, issuerRotations, fewestRotations], [3, 1, 1]);
  });

  it('tells and counts a failure, whoever saw it', () => {
    const story = new Story(['web', 'echo']);
    assert.equal(
      story.line('echo', { kind: 'failure', reason: 'refused a client' }, NOW_MS),
      '03:04:05  echo  FAILURE: refused a client',
    );
    assert.equal(story.totals.failures, 1);
    story.line('web', traffic(40, 3), NOW_MS);
    assert.equal(story.totals.failures, 3);
  });

  it('tells of many failures in few lines, and counts them all', () => {
    const story = new Story(['web', 'echo']);
    const fail = (atMs: number) => story.line('web', { kind: 'failure', reason: 'x' }, NOW_MS + atMs);
    assert.match(fail(0) ?? '', /FAILURE: x$/);
    assert.equal(fail(1), undefined);
    assert.equal(fail(4_999), undefined);
    assert.match(fail(5_000) ?? '', /FAILURE, after 2 more: x$/);
    assert.equal(story.totals.failures, 4);
  });
});

describe('summary', () => {
  it('says how it went in one line', () => {
    const totals = {
      requests: 40,
      newConnections: 12,
      failures: 0,
      svidRotations: 5,
      issuerRotations: 1,
      fewestRotations: 2,
    };
    assert.equal(
      summary(totals),
      '40 requests, 12 of them on new connections; 5 SVID rotations, 1 of them to a new issuer; 0 failures',
    );
  });
});
