import assert from 'node:assert/strict';
import { join } from 'node:path';
import { before, describe, it, type TestContext } from 'node:test';
import { Client, credentials, type ServiceError, status as grpcStatus } from '@grpc/grpc-js';
import { failedAttempt } from '../../../agent/failed-attempt.ts';
import { WorkloadEndpoint } from '../../../agent/feed/workload-endpoint.ts';
import { heldSnapshot, type IdentitySnapshot } from '../../../agent/snapshot.ts';
import { INITIAL_STATE, type AgentState } from '../../../agent/state.ts';
import { type AgentStatusSource, agentStatus } from '../../../agent/status.ts';
import { addStatusService } from '../../../agent/status-service.ts';
import { getAgentStatus } from '../../../cli/agent-status-client.ts';
import { systemClock } from '../../../host/clock.ts';
import { silentLog } from '../../../host/log.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import { GetAgentStatusResponse } from '../../../proto/gen/kedge/v1/agent.ts';
import { NO_REFUSALS } from '../../support/endpoint-refusals.ts';
import { EXAMPLE_ORG, SnapshotFactory } from '../../support/snapshots.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const NOW_MS = Date.UTC(2026, 0, 1);

describe('the status of an agent', () => {
  let snapshot: IdentitySnapshot;
  let serving: AgentState;
  before(async () => {
    const factory = await SnapshotFactory.make(NOW_MS);
    snapshot = await factory.snapshot(3);
    const at = { wallMs: NOW_MS + 1000, monotonicMs: 1000 };
    serving = {
      phase: 'serving',
      generation: 3,
      bundle: snapshot.bundle,
      failures: 0,
      retryAt: null,
      clockSkewMs: -4,
      snapshot,
      expiry: at,
      renewal: { at, reason: 'hint', answered: null },
    };
  });
  const statusOf = (change: Partial<AgentStatusSource> = {}): GetAgentStatusResponse =>
    agentStatus({
      trustDomain: EXAMPLE_ORG,
      state: serving,
      feeds: [],
      failure: null,
      canary: null,
      nowMs: NOW_MS,
      ...change,
    });

  it('says what is served, and no key', () => {
    const answer = statusOf();
    assert.deepEqual(answer.svid, {
      spiffeId: snapshot.svid.spiffeId.toString(),
      serialNumber: snapshot.svid.serialNumber,
      authorityKeyId: snapshot.svid.authorityKeyId,
      notBeforeMs: BigInt(snapshot.svid.notBeforeMs),
      notAfterMs: BigInt(snapshot.svid.notAfterMs),
      renewAtMs: BigInt(NOW_MS + 1000),
      renewReason: 'hint',
    });
    assert.deepEqual([answer.bundleSequence, answer.clockSkewMs, answer.anchors.length], [3n, -4n, 1]);
    const key = Buffer.from(snapshot.svid.privateKey.expose());
    const bytes = Buffer.from(GetAgentStatusResponse.encode(answer).finish());
    for (let at = 0; at + 16 <= key.length; at += 16) {
      const isDerHeader = at < 32;
      assert.ok(
        isDerHeader || !bytes.includes(key.subarray(at, at + 16)),
        'a part of the key is in the answer',
      );
    }
  });

  it('says what there is before there is anything', () => {
    const { phase, svid, bundleSequence, anchors } = statusOf({ state: INITIAL_STATE });
    assert.deepEqual([phase, svid, bundleSequence, anchors], ['starting', undefined, 0n, []]);
  });

  it('names the newest failure, bounded, and when the next attempt is', () => {
    const failure = failedAttempt(new KedgeError('ca_unreachable', 'x'.repeat(5000), { hint: 'look' }));
    const state: AgentState = {
      ...INITIAL_STATE,
      failures: 1,
      retryAt: { wallMs: NOW_MS + 500, monotonicMs: 1 },
    };
    const { lastFailure } = statusOf({ state, failure });
    assert.equal(lastFailure?.code, 'ca_unreachable');
    assert.equal(lastFailure?.message.length, 512);
    assert.equal(lastFailure?.retryAtMs, BigInt(NOW_MS + 500));
    assert.deepEqual(failedAttempt(new TypeError('secret')), {
      code: 'internal',
      message: 'see the log of the agent',
    });
  });

  const served = async (t: TestContext): Promise<string> => {
    const socketPath = join(temporaryFolder(t), 'api.sock');
    const endpoint = new WorkloadEndpoint({
      socketPaths: [socketPath],
      socketMode: 0o600,
      maxStreams: 4,
      clock: systemClock,
      ...NO_REFUSALS,
    });
    const consumers = Array.from({ length: 64 }, (_, i) => ({
      name: `stream-${i}${'x'.repeat(50)}`,
      best: 'loaded' as const,
      delivered: heldSnapshot(snapshot),
      loaded: heldSnapshot(snapshot),
      errorCode: null,
    }));
    const feeds = Array.from({ length: 8 }, (_, i) => ({
      name: `feed-${i}`,
      inPlace: snapshot,
      consumers,
      errorCode: null,
    }));
    addStatusService(endpoint, () => statusOf({ feeds }));
    await endpoint.listen();
    t.after(() => endpoint.close());
    return `unix://${socketPath}`;
  };

  it('is answered on the socket, with every consumer of every feed', async (t) => {
    const { feeds, svid } = await getAgentStatus(await served(t), 5_000);
    assert.equal(svid?.spiffeId, snapshot.svid.spiffeId.toString());
    assert.deepEqual(
      feeds.map(({ consumers }) => consumers.length),
      Array.from({ length: 8 }, () => 64),
    );
  });

  it('refuses requests that are no requests, and goes on', async (t) => {
    const target = await served(t);
    const client = new Client(target, credentials.createInsecure());
    t.after(() => client.close());
    const refusal = (request: Buffer): Promise<ServiceError | null> =>
      new Promise((resolve) => {
        const same = (bytes: Buffer): Buffer => bytes;
        client.makeUnaryRequest('/kedge.v1.Agent/GetStatus', same, same, request, resolve);
      });
    for (const { name, request, code } of [
      { name: 'a field cut off', request: Buffer.from([0x0a, 0xff]), code: grpcStatus.INVALID_ARGUMENT },
      { name: 'a wrong wire type', request: Buffer.from([0x0f]), code: grpcStatus.INVALID_ARGUMENT },
      { name: '65 KiB', request: Buffer.alloc(65 * 1024), code: grpcStatus.INVALID_ARGUMENT },
      { name: '17 MiB', request: Buffer.alloc(17 * 1024 * 1024), code: grpcStatus.RESOURCE_EXHAUSTED },
    ]) {
      assert.equal((await refusal(request))?.code, code, name);
    }
    assert.equal(await refusal(Buffer.alloc(0)), null, 'a request after them is served');
  });

  it('is refused with an incident id alone when it cannot be made; what it was is in the log, and it is counted', async (t) => {
    const socketPath = join(temporaryFolder(t), 'api.sock');
    const logged: { readonly event: string; readonly fields: Record<string, unknown> }[] = [];
    const refusals: string[] = [];
    const endpoint = new WorkloadEndpoint({
      socketPaths: [socketPath],
      socketMode: 0o600,
      maxStreams: 4,
      clock: systemClock,
      ...NO_REFUSALS,
      log: { ...silentLog, error: (event, fields) => void logged.push({ event, fields: fields ?? {} }) },
      onRefusal: (code) => void refusals.push(code),
    });
    addStatusService(endpoint, () => {
      throw new TypeError('a detail of the agent');
    });
    await endpoint.listen();
    t.after(() => endpoint.close());
    const failure = await getAgentStatus(`unix://${socketPath}`, 10_000).then(
      () => assert.fail('it was answered'),
      (error: unknown) => error as KedgeError,
    );
    const [line] = logged;
    assert.match(failure.message, /internal error, incident [0-9a-f]{16}/);
    assert.doesNotMatch(failure.message, /detail/);
    assert.equal(line?.event, 'grpc.internal_error');
    assert.ok(failure.message.includes(String(line?.fields['incident'])));
    assert.match(JSON.stringify(line?.fields), /a detail of the agent/);
    assert.deepEqual(refusals, ['internal']);
  });

  it('is refused by an agent that has no such service as unimplemented', async (t) => {
    const socketPath = join(temporaryFolder(t), 'api.sock');
    const endpoint = new WorkloadEndpoint({
      socketPaths: [socketPath],
      socketMode: 0o600,
      maxStreams: 4,
      clock: systemClock,
      ...NO_REFUSALS,
    });
    await endpoint.listen();
    t.after(() => endpoint.close());
    await assert.rejects(getAgentStatus(`unix://${socketPath}`, 5_000), { code: 'unimplemented' });
    await assert.rejects(getAgentStatus(`unix://${socketPath}.none`, 5_000), { code: 'agent_unreachable' });
  });
});
