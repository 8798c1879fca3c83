import { type SdsForm } from './sds-form.ts';
import { WILDCARD } from './sds-names.ts';
import type { SotwRequest } from './sds-request.ts';
import type { SdsCatalog, SdsResource } from './sds-resources.ts';
import {
  evidenceOf,
  isNews,
  isUnanswered,
  markAnswered,
  markSent,
  NO_EVIDENCE,
  restrict,
  type StreamEvidence,
  type Tracking,
} from './sds-tracking.ts';

/** What happens to a stream. */
export type SdsEvent<Request> =
  /** The client has sent a request. */
  | { readonly type: 'request'; readonly request: Request }
  /** There is a newer snapshot. */
  | { readonly type: 'catalog'; readonly catalog: SdsCatalog }
  /** The transport has taken the response that was sent last. */
  | { readonly type: 'written' };

/** A response, still without its encoding. */
export interface SdsResponse {
  /** `version_info`, or `system_version_info` of the delta protocol: counts the responses of the stream from 0. */
  readonly version: string;
  readonly nonce: string;
  readonly resources: readonly SdsResource[];
  /** Names of resources that are gone; delta protocol only. */
  readonly removed: readonly string[];
}

/** What every SDS stream remembers, whichever protocol it speaks. */
export interface StreamState {
  /** Printable ASCII, bounded; empty = the client has not said. */
  readonly nodeName: string;
  readonly form: SdsForm;
  /** The first request has come. */
  readonly isStarted: boolean;
  /** The client asks for everything. */
  readonly isWildcard: boolean;
  /** The names that it asks for beside. */
  readonly names: ReadonlySet<string>;
  readonly catalog: SdsCatalog | null;
  readonly tracking: Tracking;
  /** Responses sent so far. */
  readonly responses: number;
  /** A response waits for the transport: none is sent meanwhile. */
  readonly isWriting: boolean;
  readonly evidence: StreamEvidence;
}

/** A refusal by the client, for the log. */
export interface Nack {
  readonly names: readonly string[];
  readonly reason: string;
}

/** What follows from an event: the next state, and what to do. */
export interface SdsStep<State> {
  readonly state: State;
  readonly send: SdsResponse | null;
  readonly nack: Nack | null;
}

/** A stream of the state-of-the-world protocol (`StreamSecrets`). */
export interface SotwState extends StreamState {
  /** The client has named a resource at least once: no name no longer means everything. */
  readonly hasNamed: boolean;
  /** Nonce and version of the newest response; null = there was none. */
  readonly newest: { readonly nonce: string; readonly version: string; readonly isAnswered: boolean } | null;
}

/** A stream that was opened just now. `form` is that of a client that never tells of its node. */
export function newStreamState(form: SdsForm, catalog: SdsCatalog | null): StreamState {
  return {
    nodeName: '',
    form,
    isStarted: false,
    isWildcard: false,
    names: new Set(),
    catalog,
    tracking: new Map(),
    responses: 0,
    isWriting: false,
    evidence: NO_EVIDENCE,
  };
}

export function newSotwState(form: SdsForm, catalog: SdsCatalog | null): SotwState {
  return { ...newStreamState(form, catalog), hasNamed: false, newest: null };
}

/**
 * One step of a state-of-the-world stream. `nonce` is fresh and unpredictable; it names the response, if there is one.
 *
 * Sends on the first request, when names are added, and when a snapshot brings something new; and then what is new and
 * what the client has not yet answered for, never what it has accepted, never again what it has refused. Leaving out
 * is safe: Envoy keeps a secret that a response does not mention.
 *
 * Throws `sds_name_unknown`, `sds_name_unsupported` or `sds_validator_disabled`, which end the stream.
 */
export function stepSotw(state: SotwState, event: SdsEvent<SotwRequest>, nonce: string): SdsStep<SotwState> {
  switch (event.type) {
    case 'catalog':
      return settle({ ...state, catalog: event.catalog }, nonce, null);
    case 'written':
      return settle({ ...state, isWriting: false }, nonce, null);
    case 'request':
      break;
  }
  const { request } = event;
  // A request that answers an older response, or none, was sent before the client saw the newest.
  if (state.isStarted && request.nonce !== (state.newest?.nonce ?? ''))
    return { state, send: null, nack: null };
  const answered = answer(state, request);
  const hasNamed = state.hasNamed || request.names.size > 0;
  const next: SotwState = {
    ...state,
    ...answered.state,
    ...(request.node === null ? {} : { nodeName: request.node.name, form: request.node.form }),
    isStarted: true,
    hasNamed,
    isWildcard: request.names.has(WILDCARD) || !hasNamed,
    names: new Set([...request.names].filter((name) => name !== WILDCARD)),
  };
  return settle(next, nonce, answered.nack);
}

/** Takes the answer to the newest response, where the request is one. */
function answer(state: SotwState, request: SotwRequest): { state: Partial<SotwState>; nack: Nack | null } {
  const { newest, tracking } = state;
  if (!state.isStarted || newest === null || newest.isAnswered) return { state: {}, nack: null };
  // A client that names another version than it was sent has rolled back, whether it says why or not.
  const isAccepted = request.nack === null && request.version === newest.version;
  const answered = markAnswered(tracking, newest.nonce, isAccepted);
  const reason = request.nack ?? 'the client goes on with another version';
  return {
    state: { tracking: answered.tracking, newest: { ...newest, isAnswered: true } },
    nack: isAccepted ? null : { names: answered.names, reason },
  };
}

function settle(state: SotwState, nonce: string, nack: Nack | null): SdsStep<SotwState> {
  const { catalog, form } = state;
  if (!state.isStarted || catalog === null) return { state, send: null, nack };
  catalog.check(state.names, form);
  const names = subscribedNames(state, catalog);
  const resources = resourcesOf(names, catalog, form);
  // A name that is dropped and taken again is sent again.
  const tracking = restrict(state.tracking, (name) => names.has(name));
  if (state.isWriting || !resources.some((resource) => isNews(tracking, resource))) {
    const current = { ...state, tracking };
    return { state: withEvidence(current, catalog, resources), send: null, nack };
  }
  const due = resources.filter((r) => isNews(tracking, r) || isUnanswered(tracking, r));
  const version = String(state.responses);
  const next: SotwState = {
    ...state,
    tracking: markSent(tracking, nonce, due),
    responses: state.responses + 1,
    newest: { nonce, version, isAnswered: false },
    isWriting: true,
  };
  return {
    state: withEvidence(next, catalog, resources),
    send: { version, nonce, resources: due, removed: [] },
    nack,
  };
}

/** All names that a stream asks for now. */
export function subscribedNames(
  { isWildcard, names }: Pick<StreamState, 'isWildcard' | 'names'>,
  catalog: SdsCatalog,
): ReadonlySet<string> {
  return isWildcard ? new Set([...catalog.everything, ...names]) : names;
}

/** The secrets of those of `names` that exist. */
export function resourcesOf(
  names: Iterable<string>,
  catalog: SdsCatalog,
  form: SdsForm,
): readonly SdsResource[] {
  return [...names].map((name) => catalog.get(name, form)).filter((resource) => resource !== null);
}

/** With the evidence that the tracking now gives; none is given for what still waits for the transport. */
export function withEvidence<State extends StreamState>(
  state: State,
  catalog: SdsCatalog,
  resources: readonly SdsResource[],
): State {
  if (state.isWriting) return state;
  const evidence = evidenceOf(state.evidence, catalog.held, resources, state.tracking);
  return { ...state, evidence };
}
