import { newDeltaState, type DeltaState, stepDelta } from './sds-delta-state.ts';
import type { SdsForm } from './sds-form.ts';
import { type DeltaRequest, readDeltaRequest, readSotwRequest, type SotwRequest } from './sds-request.ts';
import type { SdsCatalog } from './sds-resources.ts';
import { encodeDeltaResponse, encodeSotwResponse } from './sds-response.ts';
import {
  newSotwState,
  type SdsEvent,
  type SdsResponse,
  type SdsStep,
  type SotwState,
  stepSotw,
  type StreamState,
} from './sds-stream-state.ts';

/** One of the two protocols of a discovery stream: how it reads, steps and writes. Pure. */
export interface SdsProtocol<Request, State extends StreamState> {
  /** Throws what `sds-request.ts` says. */
  read(bytes: Uint8Array, isValidatorDisabled: boolean): Request;
  start(form: SdsForm, catalog: SdsCatalog | null): State;
  /** Throws what the step says; that ends the stream. */
  step(state: State, event: SdsEvent<Request>, nonce: string): SdsStep<State>;
  encode(response: SdsResponse): Buffer;
}

/** State of the world: `StreamSecrets`. */
export const SOTW_PROTOCOL: SdsProtocol<SotwRequest, SotwState> = {
  read: readSotwRequest,
  start: newSotwState,
  step: stepSotw,
  encode: encodeSotwResponse,
};

/** Incremental: `DeltaSecrets`. */
export const DELTA_PROTOCOL: SdsProtocol<DeltaRequest, DeltaState> = {
  read: readDeltaRequest,
  start: newDeltaState,
  step: stepDelta,
  encode: encodeDeltaResponse,
};
