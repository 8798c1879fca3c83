import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { after, type Instant } from '../../../agent/deadline.ts';
import { drawRenewal, MIN_HELD_MS } from '../../../agent/renewal.ts';
import type { BundleSnapshot, SvidSnapshot } from '../../../agent/snapshot.ts';
import {
  type AgentEvent,
  type AgentState,
  attemptDueAt,
  INITIAL_STATE,
  transition,
  wakeAt,
} from '../../../agent/state.ts';
import { Secret } from '../../../pki/secret.ts';
import { SpiffeId } from '../../../pki/spiffe-id.ts';
import { EXAMPLE_ORG } from '../../support/snapshots.ts';

const NOW: Instant = { wallMs: Date.UTC(2026, 0, 1), monotonicMs: 0 };
const LIFETIME_MS = 3_600_000;

const svid = (serial: number): SvidSnapshot => ({
  spiffeId: SpiffeId.parse('spiffe://example.org/web'),
  chain: [],
  privateKey: new Secret(new Uint8Array(1)),
  serialNumber: Uint8Array.of(serial),
  authorityKeyId: Uint8Array.of(7),
  notBeforeMs: NOW.wallMs,
  notAfterMs: NOW.wallMs + LIFETIME_MS,
});
const bundle = (sequence: bigint): BundleSnapshot => ({
  trustDomain: EXAMPLE_ORG,
  sequence,
  refreshHintSeconds: 300,
  x509Authorities: [],
  crls: [],
});
const issued = (serial = 1, sequence = 1n): AgentEvent => {
  const expiry = after(NOW, LIFETIME_MS);
  const renewal = drawRenewal({ now: NOW, expiry, caNowMs: NOW.wallMs, hint: undefined, fraction: 0 });
  return { type: 'issued', svid: svid(serial), bundle: bundle(sequence), expiry, renewal, clockSkewMs: 5 };
};
const failed = (denied = false): AgentEvent => ({
  type: 'attempt-failed',
  retryAt: after(NOW, 500),
  denied,
});
const timeAfter = (ms: number): AgentEvent => ({ type: 'time', now: after(NOW, ms) });
const run = (...events: readonly AgentEvent[]): AgentState => events.reduce(transition, INITIAL_STATE);

describe('the state of an agent', () => {
  const phases: readonly { name: string; events: readonly AgentEvent[]; want: AgentState['phase'] }[] = [
    { name: 'starts without an identity', events: [], want: 'starting' },
    { name: 'serves what was issued', events: [issued()], want: 'serving' },
    { name: 'goes on starting when an attempt fails', events: [failed()], want: 'starting' },
    { name: 'is denied when the CA says that there is no identity', events: [failed(true)], want: 'denied' },
    { name: 'serves after it was denied', events: [failed(true), issued()], want: 'serving' },
    { name: 'goes on serving when a renewal fails', events: [issued(), failed()], want: 'serving' },
    { name: 'goes on serving when a renewal is denied', events: [issued(), failed(true)], want: 'serving' },
    { name: 'serves until the last moment', events: [issued(), timeAfter(LIFETIME_MS - 1)], want: 'serving' },
    { name: 'has expired at its notAfter', events: [issued(), timeAfter(LIFETIME_MS)], want: 'expired' },
    {
      name: 'serves again after it had expired',
      events: [issued(), timeAfter(LIFETIME_MS), issued(2)],
      want: 'serving',
    },
    { name: 'has nothing to expire before it serves', events: [timeAfter(LIFETIME_MS)], want: 'starting' },
  ];
  for (const { name, events, want } of phases) it(name, () => assert.equal(run(...events).phase, want));

  it('makes a new snapshot, with the same SVID, when a bundle arrives', () => {
    const before = run(issued());
    const state = transition(before, { type: 'bundle', bundle: bundle(2n) });
    assert.ok(before.phase === 'serving' && state.phase === 'serving');
    assert.equal(state.snapshot.svid, before.snapshot.svid);
    assert.equal(state.snapshot.bundle.sequence, 2n);
    assert.equal(state.snapshot.generation, before.snapshot.generation + 1);
    assert.equal(state.renewal, before.renewal);
  });

  it('takes no notice of an older bundle, nor of the one that it holds', () => {
    const state = run(issued(1, 3n));
    assert.ok(state.bundle !== null);
    assert.equal(transition(state, { type: 'bundle', bundle: state.bundle }), state);
    assert.equal(transition(state, { type: 'bundle', bundle: bundle(2n) }), state);
  });

  it('keeps a pushed bundle that overtook the answer with the SVID', () => {
    const state = run(issued(1, 1n), { type: 'bundle', bundle: bundle(5n) }, issued(2, 4n));
    assert.ok(state.phase === 'serving');
    assert.equal(state.snapshot.bundle.sequence, 5n);
  });

  it('keeps the bundle when the SVID has expired, and learns newer ones', () => {
    const expired = run(issued(1, 3n), timeAfter(LIFETIME_MS));
    assert.equal(expired.bundle?.sequence, 3n);
    assert.equal(transition(expired, { type: 'bundle', bundle: bundle(4n) }).bundle?.sequence, 4n);
  });

  it('forgets failures with a success', () => {
    const state = run(failed(), failed(), issued());
    assert.equal(state.failures, 0);
    assert.equal(state.retryAt, null);
  });

  it('keeps the skew that was measured when an SVID comes from where none is', () => {
    const fromCache: AgentEvent = { ...issued(2), clockSkewMs: null } as AgentEvent;
    assert.equal(run(issued(), fromCache).clockSkewMs, 5);
  });

  it('counts generations over all snapshots', () => {
    const state = run(
      issued(),
      { type: 'bundle', bundle: bundle(2n) },
      timeAfter(LIFETIME_MS),
      issued(2, 2n),
    );
    assert.equal(state.generation, 3);
  });

  it('answers a request to renew only while it serves', () => {
    const request: AgentEvent = {
      type: 'renewal-requested',
      request: { authorityKeyId: Uint8Array.of(8), window: undefined },
      caNowMs: NOW.wallMs,
      now: NOW,
      fraction: 0.5,
    };
    assert.equal(run(request), INITIAL_STATE);
    const state = run(issued(), request);
    assert.ok(state.phase === 'serving');
    assert.equal(state.renewal.reason, 'request');
  });

  it('renews as soon as may be when its SVID is not trusted any more', () => {
    const state = run(issued(), { type: 'svid-untrusted', now: NOW });
    assert.deepEqual(attemptDueAt(state), after(NOW, MIN_HELD_MS));
    assert.equal(state.phase, 'serving');
  });
});

describe('the next attempt', () => {
  it('is due at once without an identity', () => assert.equal(attemptDueAt(INITIAL_STATE), null));

  it('waits for the back-off after a failure', () => {
    assert.deepEqual(attemptDueAt(run(failed())), after(NOW, 500));
  });

  it('is due at the renewal instant while the identity is served', () => {
    assert.deepEqual(attemptDueAt(run(issued())), after(NOW, LIFETIME_MS / 2));
  });

  it('waits for the back-off after a failed renewal', () => {
    assert.deepEqual(attemptDueAt(run(issued(), failed())), after(NOW, 500));
  });
});

describe('the next wake', () => {
  it('is the expiry while an attempt runs', () => {
    assert.deepEqual(wakeAt(run(issued()), NOW, true), after(NOW, LIFETIME_MS));
  });
  it('is the renewal instant otherwise', () => {
    assert.deepEqual(wakeAt(run(issued()), NOW, false), after(NOW, LIFETIME_MS / 2));
  });
  it('is none while the first attempt runs', () => {
    assert.equal(wakeAt(INITIAL_STATE, NOW, true), null);
  });
});
