/**
 * A model of an Envoy on one SDS stream, driven at random: it reads late, accepts and refuses, changes its names at
 * any moment, while snapshots come and the transport is slow. Both protocols keep the same promises.
 */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import fc from 'fast-check';
import { newDeltaState, stepDelta } from '../../../../agent/feed/sds-delta-state.ts';
import type { DeltaRequest, SotwRequest } from '../../../../agent/feed/sds-request.ts';
import type { SdsCatalog } from '../../../../agent/feed/sds-resources.ts';
import {
  newSotwState,
  type SdsEvent,
  type SdsResponse,
  type SdsStep,
  type StreamState,
  stepSotw,
} from '../../../../agent/feed/sds-stream-state.ts';
import { SVID_ID } from '../../../support/certificates.ts';
import { checkProperty } from '../../../support/property.ts';
import { catalogOf, deltaRequest, sotwRequest } from '../../../support/sds-catalogs.ts';
import { SnapshotFactory } from '../../../support/snapshots.ts';

const NAMES = ['default', SVID_ID, 'ROOTCA', 'ALL', 'spiffe://example.org'] as const;

type Command =
  | { readonly type: 'publish'; readonly catalog: number }
  | { readonly type: 'written' | 'clientReads' | 'serverReads' }
  | { readonly type: 'rename'; readonly names: readonly string[] };

const commands: fc.Arbitrary<readonly Command[]> = fc.array(
  fc.oneof(
    fc.record({ type: fc.constant('publish' as const), catalog: fc.nat(8) }),
    fc.record({ type: fc.constantFrom('written' as const, 'clientReads' as const, 'serverReads' as const) }),
    fc.record({ type: fc.constantFrom('written' as const, 'clientReads' as const, 'serverReads' as const) }),
    fc.record({ type: fc.constant('rename' as const), names: fc.subarray([...NAMES], { minLength: 1 }) }),
  ),
  { maxLength: 60 },
);

/** Which versions of which resource the Envoy refuses: by place among the catalogs. */
const refusals = fc.subarray([0, 1, 2, 3, 4, 5, 6, 7, 8]);

/** How one protocol is spoken. */
interface Protocol<Request, State extends StreamState> {
  readonly start: () => State;
  readonly step: (state: State, event: SdsEvent<Request>, nonce: string) => SdsStep<State>;
  /** Whether the server has to ignore a request with this nonce. */
  readonly isStale: (nonce: string, newest: string) => boolean;
  /** First request, answer, or change of names. */
  readonly request: (client: Client, answered: SdsResponse | null, nack: string | null) => Request;
}

/** A request under way, and what it means. */
interface Sent<Request> {
  readonly request: Request;
  readonly nonce: string;
  readonly names: readonly string[];
  readonly dropped: readonly string[];
  readonly answered: SdsResponse | null;
  readonly nack: string | null;
}

class Client {
  names: readonly string[] = [];
  /** Names as the last request that was sent had them. */
  told: readonly string[] = [];
  /** By name, the version in use. */
  readonly inUse = new Map<string, string>();
  acceptedVersion = '';
  lastNonce = '';
}

/** Runs the commands, then lets everything settle; asserts at each step and at the end. */
function run<Request, State extends StreamState>(
  protocol: Protocol<Request, State>,
  catalogs: readonly SdsCatalog[],
  badVersions: ReadonlySet<string>,
  script: readonly Command[],
): void {
  const client = new Client();
  const toServer: Sent<Request>[] = [];
  const toClient: SdsResponse[] = [];
  /** By name, the version that the client refused last, as the server has heard, while it asks for the name. */
  const refused = new Map<string, string>();
  /** By name, the response that brought it last. */
  const broughtBy = new Map<string, string>();
  let newestNonce = '';
  let state = protocol.start();
  let current: SdsCatalog | null = null;
  let isWriting = false;
  let steps = 0;

  const serverTakes = (event: SdsEvent<Request>): void => {
    steps += 1;
    const { state: next, send } = protocol.step(state, event, `n${steps}`);
    state = next;
    if (send === null) return;
    assert.ok(!isWriting, 'two responses in flight');
    isWriting = true;
    assert.ok(send.resources.length > 0 || send.removed.length > 0, 'an empty response');
    for (const { name, version } of send.resources) {
      assert.equal(version, current?.get(name, 'spiffe')?.version, `a stale ${name} was sent`);
      assert.ok(refused.get(name) !== version, `a refused ${name} was sent again`);
    }
    for (const { name } of [...send.resources]) broughtBy.set(name, send.nonce);
    newestNonce = send.nonce;
    toClient.push(send);
  };
  const clientSends = (answered: SdsResponse | null, nack: string | null): void => {
    const request = protocol.request(client, answered, nack);
    const dropped = client.told.filter((name) => !client.names.includes(name));
    toServer.push({
      request,
      nonce: answered?.nonce ?? client.lastNonce,
      names: client.names,
      dropped,
      answered,
      nack,
    });
    client.told = client.names;
  };
  const clientReads = (): void => {
    const response = toClient.shift();
    if (response === undefined) return;
    const isBad = response.resources.some(({ version }) => badVersions.has(version));
    client.lastNonce = response.nonce;
    if (!isBad) {
      client.acceptedVersion = response.version;
      for (const { name, version } of response.resources) client.inUse.set(name, version);
    }
    clientSends(response, isBad ? 'bad' : null);
  };
  const serverReads = (): void => {
    const sent = toServer.shift();
    if (sent === undefined) return;
    const { answered, nack } = sent;
    if (!protocol.isStale(sent.nonce, newestNonce)) {
      for (const { name, version } of answered?.resources ?? []) {
        if (broughtBy.get(name) !== answered?.nonce) continue;
        if (nack === null) refused.delete(name);
        else refused.set(name, version);
      }
      for (const name of refused.keys()) {
        if (!sent.names.includes(name) || sent.dropped.includes(name)) refused.delete(name);
      }
    }
    serverTakes({ type: 'request', request: sent.request });
  };
  const written = (): void => {
    if (!isWriting) return;
    isWriting = false;
    serverTakes({ type: 'written' });
  };

  for (const command of script) {
    switch (command.type) {
      case 'publish':
        current = catalogs[command.catalog] ?? null;
        if (current !== null) serverTakes({ type: 'catalog', catalog: current });
        break;
      case 'written':
        written();
        break;
      case 'clientReads':
        clientReads();
        break;
      case 'serverReads':
        serverReads();
        break;
      case 'rename':
        client.names = command.names;
        clientSends(null, null);
        break;
    }
  }
  const isSettled = (): boolean => !isWriting && toClient.length === 0 && toServer.length === 0;
  for (let rounds = 0; !isSettled(); rounds += 1) {
    assert.ok(rounds < 100, 'the stream does not settle');
    written();
    clientReads();
    serverReads();
  }

  if (current === null || client.names.length === 0) return;
  const held = current.held.generation;
  const isRefused = (name: string): boolean => badVersions.has(current?.get(name, 'spiffe')?.version ?? '');
  const nacked = client.names.filter(
    (name) => state.tracking.get(name)?.refused === current?.get(name, 'spiffe')?.version,
  );
  for (const name of client.names) {
    if (nacked.includes(name)) continue;
    assert.ok(!isRefused(name), `${name} was refused, and the server does not know`);
    assert.equal(client.inUse.get(name), current.get(name, 'spiffe')?.version, `${name} is not the newest`);
  }
  assert.equal(state.evidence.errorCode, nacked.length > 0 ? 'sds_nack' : null);
  if (nacked.length === 0) {
    assert.equal(state.evidence.loaded?.generation, held);
    assert.equal(state.evidence.delivered?.generation, held);
  }
}

const sotw: Protocol<SotwRequest, ReturnType<typeof newSotwState>> = {
  start: () => newSotwState('spiffe', null),
  step: stepSotw,
  isStale: (nonce, newest) => nonce !== newest,
  request: ({ names, acceptedVersion, lastNonce }, answered, nack) =>
    sotwRequest(names, { version: acceptedVersion, nonce: answered?.nonce ?? lastNonce, nack }),
};

const delta: Protocol<DeltaRequest, ReturnType<typeof newDeltaState>> = {
  start: () => newDeltaState('spiffe', null),
  step: stepDelta,
  isStale: () => false,
  request: ({ names, told }, answered, nack) =>
    deltaRequest({
      subscribe: names.filter((name) => !told.includes(name)),
      unsubscribe: told.filter((name) => !names.includes(name)),
      nonce: answered?.nonce ?? '',
      nack,
    }),
};

describe('any client of an SDS stream', () => {
  /** Three SVIDs by three bundles. */
  const catalogs: SdsCatalog[] = [];

  before(async () => {
    const factory = await SnapshotFactory.make(Date.now());
    const others = [await SnapshotFactory.make(Date.now()), await SnapshotFactory.make(Date.now())];
    const svids = [await factory.svid(), await factory.svid(), await factory.svid()];
    const bundles = [
      factory.bundle(1n),
      ...others.map(({ anchor }, index) => factory.bundle(BigInt(index + 2), anchor)),
    ];
    for (const svid of svids) {
      for (const bundle of bundles) {
        catalogs.push(catalogOf({ generation: catalogs.length + 1, svid, bundle }));
      }
    }
  });

  /** The versions of one resource in each of the chosen catalogs. */
  const badVersionsOf = (chosen: readonly number[]): ReadonlySet<string> =>
    new Set(
      chosen.map(
        (index) => catalogs[index]?.get(index % 2 === 0 ? 'default' : 'ROOTCA', 'spiffe')?.version ?? '',
      ),
    );

  const property = <Request, State extends StreamState>(protocol: Protocol<Request, State>): void =>
    checkProperty(
      fc.property(commands, refusals, (script, chosen) =>
        run(protocol, catalogs, badVersionsOf(chosen), script),
      ),
      3_000,
    );

  it('gets the newest of what it asks for, never what it refused, one response at a time: StreamSecrets', () => {
    property(sotw);
  });

  it('gets the newest of what it asks for, never what it refused, one response at a time: DeltaSecrets', () => {
    property(delta);
  });
});
