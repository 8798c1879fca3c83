import { createHash } from 'node:crypto';
import { parseCertificate } from '../../pki/certificate.ts';
import { isCrlOf, parseCrl } from '../../pki/crl.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { encodePem } from '../../pki/pem.ts';
import type { DataSource } from '../../proto/gen/envoy/config/core/v3/base.ts';
import {
  CertificateValidationContext,
  type TlsCertificate,
} from '../../proto/gen/envoy/extensions/transport_sockets/tls/v3/common.ts';
import { Secret } from '../../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret.ts';
import { SPIFFECertValidatorConfig } from '../../proto/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config.ts';
import { type BundleSnapshot, type HeldSnapshot, heldSnapshot, type IdentitySnapshot } from '../snapshot.ts';
import type { SdsForm } from './sds-form.ts';
import { bundlesOf, everythingIn, refuseIstioName, type SdsNames, targetOf } from './sds-names.ts';

/** The only type of resource of the Secret Discovery Service. */
export const SECRET_TYPE_URL = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';

const VALIDATOR_TYPE_URL =
  'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig';
const VALIDATOR_NAME = 'envoy.tls.cert_validator.spiffe';

/** Hex characters of a resource version. */
const VERSION_CHARS = 32;

/** Names that a refusal lists at most. */
const MAX_NAMES_TOLD = 4;

/** One secret, encoded once and shared by every stream that asks for it. */
export interface SdsResource {
  readonly name: string;
  /**
   * Made from the public part of the content alone: the same content has the same version on every stream and after
   * a restart of the agent, and another content another one.
   */
  readonly version: string;
  /** `envoy.extensions.transport_sockets.tls.v3.Secret`. */
  readonly secret: Uint8Array;
}

/** The kinds of secrets that are served, by the fields of Envoy's `Secret`. */
export type SecretKind = 'tls_certificate' | 'validation_context';

/** The secrets of one identity snapshot, by name and form. Does not change; each is encoded when it is first asked for. */
export class SdsCatalog {
  /** Names the snapshot in reports. */
  readonly held: HeldSnapshot;
  readonly #snapshot: IdentitySnapshot;
  readonly #names: SdsNames;
  readonly #certificate: TlsCertificate;
  readonly #certificateVersion: string;
  readonly #encoded = new Map<string, SdsResource>();

  constructor(snapshot: IdentitySnapshot, names: SdsNames) {
    const { chain, privateKey } = snapshot.svid;
    this.held = heldSnapshot(snapshot);
    this.#snapshot = snapshot;
    this.#names = names;
    // The key is read now: its owner may destroy it while this catalog still serves.
    this.#certificate = {
      certificateChain: inline(chain.map((der) => encodePem('CERTIFICATE', der)).join('')),
      privateKey: inline(encodePem('PRIVATE KEY', privateKey.expose())),
    };
    this.#certificateVersion = versionOf(...chain);
  }

  /** The names of everything that a wildcard gets. */
  get everything(): readonly string[] {
    return everythingIn(this.#snapshot);
  }

  /** What kind of secret `name` is or was: of all names only those of bundles can leave from one snapshot to the next. */
  kindOf(name: string): SecretKind {
    const target = targetOf(name, this.#snapshot, this.#names);
    return target?.kind === 'svid' ? 'tls_certificate' : 'validation_context';
  }

  /** The secret of that name; null = there is none, or not in this form. */
  get(name: string, form: SdsForm): SdsResource | null {
    const key = `${form} ${name}`;
    const known = this.#encoded.get(key);
    if (known !== undefined) return known;
    const resource = this.#encode(name, form);
    // What is kept is bounded: only names that exist get here.
    if (resource !== null) this.#encoded.set(key, resource);
    return resource;
  }

  /** Throws `sds_name_unknown`, `sds_name_unsupported` or `sds_validator_disabled` unless all of `names` are served. */
  check(names: Iterable<string>, form: SdsForm): void {
    const unknown: string[] = [];
    for (const name of names) {
      refuseIstioName(name);
      const target = targetOf(name, this.#snapshot, this.#names);
      if (target === null) unknown.push(name);
      else if (target.kind === 'allBundles' && form === 'plain') throw validatorDisabled(name);
    }
    if (unknown.length > 0) throw this.#nameUnknown(unknown.toSorted());
  }

  #encode(name: string, form: SdsForm): SdsResource | null {
    const target = targetOf(name, this.#snapshot, this.#names);
    switch (target?.kind) {
      case undefined:
        return null;
      case 'svid': {
        const type = { $case: 'tlsCertificate', value: this.#certificate } as const;
        return { name, version: this.#certificateVersion, secret: Secret.encode({ name, type }).finish() };
      }
      case 'bundle':
        return this.#validation(name, form, [target.bundle]);
      case 'allBundles':
        return form === 'plain' ? null : this.#validation(name, form, bundlesOf(this.#snapshot));
    }
  }

  #validation(name: string, form: SdsForm, bundles: readonly BundleSnapshot[]): SdsResource {
    const { svid } = this.#snapshot;
    const given = bundles.map((bundle) => {
      const isOwn = bundle.trustDomain.equals(svid.spiffeId.trustDomain);
      return { bundle, hasAllCrls: hasCompleteCrls(bundle, isOwn ? svid.chain.slice(1) : []) };
    });
    const value = form === 'spiffe' ? spiffeContext(given) : plainContext(given);
    return {
      name,
      version: versionOf(CertificateValidationContext.encode(value).finish()),
      secret: Secret.encode({ name, type: { $case: 'validationContext', value } }).finish(),
    };
  }

  #nameUnknown(unknown: readonly string[]): KedgeError {
    const told = unknown.slice(0, MAX_NAMES_TOLD).map((name) => quote(name));
    const more = unknown.length > told.length ? ` and ${unknown.length - told.length} more` : '';
    const served = [...this.everything, ...Object.values(this.#names).filter((name) => name !== null)];
    return new KedgeError(
      'sds_name_unknown',
      `workload is not authorized for the requested identities [${told.join(' ')}]${more}`,
      { hint: `this workload has ${served.join(', ')}` },
    );
  }
}

function validatorDisabled(name: string): KedgeError {
  return new KedgeError(
    'sds_validator_disabled',
    `${quote(name)} needs Envoy's SPIFFE validator, which is off for this client`,
    {
      hint:
        'ask for the bundle of one trust domain, or turn the validator on: ' +
        'disable_spiffe_cert_validation in the node metadata, sdsDisableSpiffeCertValidation of the agent',
    },
  );
}

interface GivenBundle {
  readonly bundle: BundleSnapshot;
  readonly hasAllCrls: boolean;
}

/**
 * Each trust domain with its own anchors. The validator ignores the `crl` field of the context, but takes CRLs that
 * stand in the PEM of a trust bundle, and then wants one of every CA of a chain (Envoy's spiffe_validator.cc). So
 * they are given where they are complete; an incomplete set would make Envoy refuse every peer.
 */
function spiffeContext(given: readonly GivenBundle[]): CertificateValidationContext {
  const trustDomains = given.map(({ bundle, hasAllCrls }) => ({
    name: bundle.trustDomain.name,
    trustBundle: inline(anchorsPem(bundle) + (hasAllCrls ? crlsPem(bundle) : '')),
  }));
  const typedConfig = {
    typeUrl: VALIDATOR_TYPE_URL,
    value: SPIFFECertValidatorConfig.encode({ trustDomains }).finish(),
  };
  return {
    trustedCa: undefined,
    crl: undefined,
    customValidatorConfig: { name: VALIDATOR_NAME, typedConfig },
    onlyVerifyLeafCertCrl: false,
  };
}

/** Anchors and CRLs. Where not every CA has a CRL, Envoy is told to look up the leaf alone. */
function plainContext(given: readonly GivenBundle[]): CertificateValidationContext {
  const crls = given.map(({ bundle }) => crlsPem(bundle)).join('');
  return {
    trustedCa: inline(given.map(({ bundle }) => anchorsPem(bundle)).join('')),
    crl: crls === '' ? undefined : inline(crls),
    customValidatorConfig: undefined,
    onlyVerifyLeafCertCrl: crls !== '' && !given.every(({ hasAllCrls }) => hasAllCrls),
  };
}

/**
 * Whether each anchor of the bundle, and each of `intermediates`, has a CRL among the bundle's. The agent knows the
 * intermediates of its own chain alone: whoever publishes CRLs has to publish one of each CA that has issued.
 */
export function hasCompleteCrls(bundle: BundleSnapshot, intermediates: readonly Uint8Array[]): boolean {
  if (bundle.crls.length === 0) return false;
  const crls = bundle.crls.map((der) => parseCrl(der));
  return [...bundle.x509Authorities, ...intermediates]
    .map((der) => parseCertificate(der))
    .every((authority) => crls.some((crl) => isCrlOf(crl, authority)));
}

function anchorsPem({ x509Authorities }: BundleSnapshot): string {
  return x509Authorities.map((der) => encodePem('CERTIFICATE', der)).join('');
}

function crlsPem({ crls }: BundleSnapshot): string {
  return crls.map((der) => encodePem('X509 CRL', der)).join('');
}

function inline(pem: string): DataSource {
  return { specifier: { $case: 'inlineBytes', value: Buffer.from(pem, 'latin1') } };
}

function versionOf(...parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex').slice(0, VERSION_CHARS);
}
