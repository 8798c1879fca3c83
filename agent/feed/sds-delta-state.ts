import { LIMITS } from '../../pki/limits.ts';
import type { SdsForm } from './sds-form.ts';
import { WILDCARD } from './sds-names.ts';
import { checkNameChars, type DeltaRequest, namesExceeded } from './sds-request.ts';
import type { SdsCatalog } from './sds-resources.ts';
import {
  newStreamState,
  resourcesOf,
  type SdsEvent,
  type SdsStep,
  type StreamState,
  subscribedNames,
  withEvidence,
} from './sds-stream-state.ts';
import {
  heldBefore,
  isNews,
  markAnswered,
  markSent,
  REMOVED,
  restrict,
  tracked,
  type TrackedResource,
} from './sds-tracking.ts';

/** A stream of the delta protocol (`DeltaSecrets`). */
export type DeltaState = StreamState;

export function newDeltaState(form: SdsForm, catalog: SdsCatalog | null): DeltaState {
  return newStreamState(form, catalog);
}

/**
 * One step of a delta stream. `nonce` is fresh and unpredictable; it names the response, if there is one.
 *
 * Sends what the client has subscribed to and does not have in its present version: new subscriptions always, others
 * when a snapshot changes them, none again that it has refused. What it had and what is gone it is told once, in
 * `removed`; a name that it never had and that does not exist ends the stream, as in the other protocol, because
 * nothing that the client could wait for will ever come.
 *
 * Throws `sds_name_unknown`, `sds_name_unsupported`, `sds_validator_disabled`, `sds_names_exceeded` or
 * `message_too_large`.
 */
export function stepDelta(
  state: DeltaState,
  event: SdsEvent<DeltaRequest>,
  nonce: string,
): SdsStep<DeltaState> {
  switch (event.type) {
    case 'catalog':
      return { ...settle({ ...state, catalog: event.catalog }, nonce), nack: null };
    case 'written':
      return { ...settle({ ...state, isWriting: false }, nonce), nack: null };
    case 'request':
      break;
  }
  const { request } = event;
  const isAccepted = request.nack === null;
  // An answer to a response that was superseded counts for what was not sent anew since; an unknown nonce for nothing.
  const answered =
    request.nonce === ''
      ? { tracking: state.tracking, names: [] }
      : markAnswered(state.tracking, request.nonce, isAccepted);
  const next = subscribe({ ...state, tracking: answered.tracking }, request);
  // The bounds of a request are not enough: what this stream asked for before is still there.
  if (next.names.size > LIMITS.sdsResourceNames) throw namesExceeded(next.names.size);
  checkNameChars(new Set([...next.names, ...next.tracking.keys()]));
  const nack =
    request.nack === null || answered.names.length === 0
      ? null
      : { names: answered.names, reason: request.nack };
  return { ...settle(next, nonce), nack };
}

function subscribe(state: DeltaState, request: DeltaRequest): DeltaState {
  const isFirst = !state.isStarted;
  const names = new Set(state.names);
  const tracking = new Map<string, TrackedResource>(state.tracking);
  let { isWildcard } = state;
  if (isFirst) {
    // What a client has from an earlier stream need not be sent again while it is what it would get now.
    for (const [name, version] of request.initialVersions) tracking.set(name, heldBefore(version));
    isWildcard = request.subscribe.size === 0;
  }
  for (const name of request.unsubscribe) {
    if (name === WILDCARD) isWildcard = false;
    names.delete(name);
    tracking.delete(name);
  }
  for (const name of request.subscribe) {
    if (name === WILDCARD) isWildcard = true;
    else names.add(name);
    // Sent again though it was sent before: the client may have dropped it in between.
    if (!isFirst) tracking.delete(name);
  }
  return {
    ...state,
    ...(request.node === null ? {} : { nodeName: request.node.name, form: request.node.form }),
    isStarted: true,
    isWildcard,
    names,
    tracking,
  };
}

function settle(state: DeltaState, nonce: string): Omit<SdsStep<DeltaState>, 'nack'> {
  const { catalog, form, isWildcard } = state;
  if (!state.isStarted || catalog === null) return { state, send: null };
  const names = subscribedNames(state, catalog);
  const resources = resourcesOf(names, catalog, form);
  const existing = new Set(resources.map(({ name }) => name));
  const wasHeld = (name: string): boolean => tracked(state.tracking, name).sent !== null;
  catalog.check(
    [...names].filter((name) => !existing.has(name) && !wasHeld(name)),
    form,
  );
  // Under a wildcard the client also holds what it never named.
  const tracking = restrict(state.tracking, (name) => isWildcard || names.has(name));
  const gone = [...tracking].filter(([name, { sent }]) => !existing.has(name) && sent !== REMOVED);
  const due = resources.filter((resource) => isNews(tracking, resource));
  if (state.isWriting || (due.length === 0 && gone.length === 0)) {
    return { state: withEvidence({ ...state, tracking }, catalog, resources), send: null };
  }
  const removed = gone.map(([name]) => name);
  const next = {
    ...state,
    tracking: markSent(tracking, nonce, due, removed),
    responses: state.responses + 1,
    isWriting: true,
  };
  return {
    state: withEvidence(next, catalog, resources),
    send: { version: String(state.responses), nonce, resources: due, removed },
  };
}
