import type { Unbound } from './bound-token.ts';
import type { KeyLocation } from './key-source.ts';
import type { SpiffeIdTemplate } from './spiffe-id-template.ts';

/** How tokens are attested. */
export const ATTESTOR_KINDS = ['development', 'tokenReview', 'oidc'] as const;
export type AttestorKind = (typeof ATTESTOR_KINDS)[number];

/** Where the keys of a trusted issuer can come from. */
export const KEY_LOCATIONS = ['discovery', 'kubernetes', 'url', 'file'] as const;

/** One of `attest.issuers` as a file has it. */
export interface IssuerEntry {
  readonly issuer: string;
  readonly cluster: string;
  readonly audience?: string | undefined;
  readonly idTemplate?: string | undefined;
  readonly keys?: (typeof KEY_LOCATIONS)[number] | undefined;
  readonly keysUrl?: string | undefined;
  readonly keysFile?: string | undefined;
  readonly authoritiesFile?: string | undefined;
  readonly tokenFile?: string | undefined;
  readonly tokenReview?: boolean | undefined;
}

/** A cluster whose tokens are accepted by their signature, as configured. */
export interface IssuerSettings {
  readonly issuer: string;
  readonly cluster: string;
  readonly audience: string;
  readonly idTemplate: SpiffeIdTemplate;
  readonly keys: KeyLocation;
  /** Whether our own API server is asked as well. */
  readonly tokenReview: boolean;
}

/** `attest` of the configuration, complete. Times are milliseconds. */
export interface AttestSettings {
  readonly kind: AttestorKind;
  readonly cluster: string;
  readonly issuer: string;
  readonly audience: string;
  readonly leewayMs: number;
  readonly unbound: Unbound;
  readonly reviewReuseMs: number;
  readonly reviewsAtOnce: number;
  /** Of `oidc` alone. */
  readonly issuers: readonly IssuerSettings[];
}

/** Whether attestation asks our own API server for anything. */
export function needsKubernetes({ kind, issuers }: AttestSettings): boolean {
  return (
    kind === 'tokenReview' ||
    issuers.some(({ keys, tokenReview }) => tokenReview || keys.kind === 'kubernetes')
  );
}
