import { randomUUID } from 'node:crypto';
import { parseCertificate } from '../../../pki/certificate.ts';
import { isSelfIssued } from '../../../pki/verify-issuer.ts';
import { decodePem } from '../../../pki/pem.ts';
import { newSigner, type TestSigner } from '../../support/certificates.ts';
import { dataAnswer, NO_CONTENT, textOf, VaultFailure, VaultRefusal } from './vault-answer.ts';
import type { VaultAnswer, VaultFlavour, VaultRequest } from './vault-answer.ts';
import {
  hasSigned,
  makeCsr,
  makeVaultCertificate,
  pemOf,
  readVaultCsr,
  serialOf,
} from './vault-certificates.ts';

/** One issuer of a mount; Vault 1.8 has at most one, without a name for it. */
export interface VaultIssuer {
  readonly id: string;
  readonly name: string;
  readonly der: Uint8Array;
  /** Null for a certificate that came without its key. */
  readonly signer: TestSigner | null;
  readonly keyId: string;
  /** DER, the issuer itself first; null = built from what the mount holds. */
  manualChain: readonly Uint8Array[] | null;
}

const AIA =
  "This mount hasn't configured any authority information access (AIA) fields; this may make it harder for systems to find missing certificates in the chain or to validate revocation status of certificates. Consider updating /config/urls or the newly generated issuer with this information.";
const AIA_INTERMEDIATE = `${AIA} Since this certificate is an intermediate, it might be useful to regenerate this certificate after fixing this problem for the root mount.`;

/** A PKI mount as Vault 1.8 and OpenBao 2.6 have it; the recorded answers hold it. */
export class VaultPkiMount {
  readonly issuers: VaultIssuer[] = [];
  defaultId = '';
  /** What was uploaded with an intermediate of Vault 1.8. */
  uploadedChain: readonly Uint8Array[] = [];
  /** The CRL of `cert/crl`. */
  crl = '-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----';
  maxTtlSeconds: number;
  /** Changes what `sign-intermediate` puts into `data`, for answers that no Vault would give. */
  tamper: (data: Record<string, unknown>) => object = (data) => data;
  #pendingKey: { readonly signer: TestSigner; readonly keyId: string } | null = null;
  readonly #flavour: VaultFlavour;
  readonly #now: () => number;

  constructor(flavour: VaultFlavour, now: () => number, maxTtlSeconds: number) {
    this.#flavour = flavour;
    this.#now = now;
    this.maxTtlSeconds = maxTtlSeconds;
  }

  /** The paths that Vault serves without a token. */
  isPublic(method: string, rest: string): boolean {
    if (method === 'GET' && /^(cert\/(ca|ca_chain|crl)|ca|ca\/pem|ca_chain|crl|crl\/pem)$/.test(rest))
      return true;
    if (this.#flavour === 'vault-1.8') return false;
    return (
      (method === 'LIST' && rest === 'issuers') ||
      (method === 'GET' && /^issuer\/[^/]+\/(json|der|pem)$/.test(rest))
    );
  }

  get default(): VaultIssuer | undefined {
    return this.issuers.find(({ id }) => id === this.defaultId);
  }

  /** Puts an issuer into the mount, as an import does; the first one is the default. */
  add(der: Uint8Array, signer: TestSigner | null, name = ''): VaultIssuer {
    const keyId = signer === null ? '' : randomUUID();
    const issuer = { id: randomUUID(), name, der, signer, keyId, manualChain: null };
    this.issuers.push(issuer);
    if (this.defaultId === '') this.defaultId = issuer.id;
    return issuer;
  }

  /** A new root by the mount's own hand. */
  async generateRoot(body: Readonly<Record<string, unknown>>): Promise<VaultIssuer> {
    const signer = newSigner();
    const { der } = await makeVaultCertificate(body, null, this.#signing(null, signer));
    return this.add(der, signer, textOf(body, 'issuer_name'));
  }

  /** The chain of an issuer, itself first. */
  chainOf(issuer: VaultIssuer): readonly Uint8Array[] {
    if (issuer.manualChain !== null) return issuer.manualChain;
    const chain = [issuer.der];
    const rest = this.issuers.filter(({ id }) => id !== issuer.id).map(({ der }) => der);
    for (let i = 0; i < chain.length; i += 1) {
      const child = chain[i] ?? issuer.der;
      if (isSelfIssued(parseCertificate(child))) continue;
      chain.push(...rest.filter((der) => hasSigned(der, child) && !chain.includes(der)));
    }
    return chain;
  }

  async answer(request: VaultRequest, _mount: string, rest: string): Promise<VaultAnswer> {
    const method = request.method === 'PUT' ? 'POST' : request.method;
    if (rest === 'root/sign-intermediate')
      return this.#only('POST', method, () => this.#sign(request, 'default'));
    if (this.isPublic(method, rest)) return this.#read(rest);
    if (method === 'POST' && /^root\/(generate|rotate)\/internal$/.test(rest))
      return this.#generate(request, rest);
    if (method === 'DELETE' && rest === 'root') return this.#deleteRoot();
    if (method === 'POST' && rest === 'intermediate/generate/internal') return this.#generateCsr(request);
    if (method === 'POST' && rest === 'intermediate/set-signed') return this.#setSigned(request);
    if (this.#flavour !== 'vault-1.8') {
      const [area, ref = '', verb] = rest.split('/');
      if (area === 'issuer' && verb === 'sign-intermediate')
        return this.#only('POST', method, () => this.#sign(request, ref));
      if (area === 'issuer' && verb === undefined) return this.#readIssuer(ref);
      if (rest === 'config/issuers' || rest === 'root/replace') return this.#configureIssuers(request);
    }
    throw new VaultFailure(404, 'unsupported path');
  }

  #only<T>(wanted: string, method: string, work: () => T): T {
    if (method !== wanted) throw new VaultFailure(405, 'unsupported operation');
    return work();
  }

  #signing(issuer: Uint8Array | null, signer: TestSigner): Parameters<typeof makeVaultCertificate>[2] {
    const takesNotBefore = this.#flavour !== 'vault-1.8';
    return { issuer, signer, maxTtlSeconds: this.maxTtlSeconds, nowMs: this.#now(), takesNotBefore };
  }

  #warnings(more: readonly string[] = [], aia = AIA): readonly string[] {
    return this.#flavour === 'vault-1.8' ? more : [aia, ...more];
  }

  #find(ref: string): VaultIssuer {
    const wanted = ref === 'default' ? this.defaultId : ref;
    const found = this.issuers.find(({ id, name }) => id === wanted || (name !== '' && name === wanted));
    if (found !== undefined) return found;
    if (ref === 'default') throw new VaultFailure(500, 'no default issuer currently configured');
    throw new VaultFailure(500, `unable to find PKI issuer for reference: ${ref}`);
  }

  #signerOf(ref: string): VaultIssuer & { readonly signer: TestSigner } {
    const reason =
      this.#flavour === 'vault-1.8'
        ? 'backend must be configured with a CA certificate/key'
        : 'no default issuer currently configured';
    if (ref === 'default' && this.default === undefined)
      throw new VaultFailure(500, `could not fetch the CA certificate (was one set?): ${reason}`);
    const { signer, ...issuer } = this.#find(ref);
    if (signer === null)
      throw new VaultFailure(
        500,
        `could not fetch the CA certificate (was one set?): this issuer (${issuer.id}) has no associated key`,
      );
    return { ...issuer, signer };
  }

  async #sign({ body }: VaultRequest, ref: string): Promise<VaultAnswer> {
    // An issuer that is missing shows before the CSR is looked at.
    const { der: issuer, signer, ...rest } = this.#signerOf(ref);
    const csr = readVaultCsr(body);
    const { der, warnings } = await makeVaultCertificate(body, csr, this.#signing(issuer, signer));
    const above = this.#chainAbove({ der: issuer, signer, ...rest });
    const isBundle = textOf(body, 'format') === 'pem_bundle';
    const isOld = this.#flavour === 'vault-1.8';
    const chain = isOld ? above : [der, ...above];
    const data: Record<string, unknown> = {
      ...(chain.length === 0 ? {} : { ca_chain: chain.map(pemOf) }),
      certificate: isBundle ? [der, ...above].map(pemOf).join('\n') : pemOf(der),
      expiration: Math.floor(parseCertificate(der).notAfterMs / 1_000),
      issuing_ca: pemOf(issuer),
      serial_number: serialOf(der),
    };
    const aiaFirst = this.#warnings(warnings);
    return dataAnswer(this.tamper(data), aiaFirst);
  }

  /** Vault 1.8 leaves out a root and knows but what was uploaded; later ones give all, the issuer first. */
  #chainAbove(issuer: VaultIssuer): readonly Uint8Array[] {
    if (this.#flavour !== 'vault-1.8') return this.chainOf(issuer);
    return isSelfIssued(parseCertificate(issuer.der)) ? [] : [issuer.der, ...this.uploadedChain];
  }

  #read(rest: string): VaultAnswer {
    const isOld = this.#flavour === 'vault-1.8';
    if (rest === 'issuers') return this.#list();
    const issuerRef = /^issuer\/([^/]+)\/json$/.exec(rest)?.[1];
    if (issuerRef !== undefined) return this.#readPublicIssuer(issuerRef);
    const known = this.default;
    const members = { revocation_time: 0, ...(isOld ? {} : { revocation_time_rfc3339: '' }) };
    if (rest === 'cert/crl') return dataAnswer({ certificate: this.crl, ...members });
    if (known === undefined) {
      if (!isOld) throw new VaultRefusal(400, ['no default issuer currently configured']);
      throw rest === 'cert/ca'
        ? new VaultRefusal(404, [])
        : new VaultRefusal(400, ['backend must be configured with a CA certificate/key']);
    }
    const chain = this.#chainAbove(known).map(pemOf).join('\n');
    if (rest === 'cert/ca') return dataAnswer({ certificate: pemOf(known.der), ...members });
    if (rest === 'cert/ca_chain')
      return dataAnswer({ ...(isOld ? {} : { ca_chain: chain }), certificate: chain, ...members });
    if (rest === 'ca_chain') {
      if (chain === '') return { status: 204, text: '', contentType: 'application/pkix-cert' };
      return { status: 200, text: chain, contentType: 'application/pkix-cert' };
    }
    if (rest === 'ca/pem') {
      const contentType = isOld ? 'application/pkix-cert' : 'application/pem-certificate-chain';
      return { status: 200, text: pemOf(known.der), contentType };
    }
    throw new VaultFailure(404, 'unsupported path');
  }

  #list(): VaultAnswer {
    const sorted = this.issuers.toSorted((a, b) => (a.id < b.id ? -1 : 1));
    if (sorted.length === 0) throw new VaultRefusal(404, []);
    const entries = sorted.map((issuer) => [
      issuer.id,
      {
        is_default: issuer.id === this.defaultId,
        issuer_name: issuer.name,
        key_id: issuer.keyId,
        serial_number: serialOf(issuer.der),
      },
    ]);
    return dataAnswer({ key_info: Object.fromEntries(entries) as object, keys: sorted.map(({ id }) => id) });
  }

  #readPublicIssuer(ref: string): VaultAnswer {
    const issuer = this.#find(ref);
    return dataAnswer({
      ca_chain: this.chainOf(issuer).map((der) => `${pemOf(der)}\n`),
      certificate: `${pemOf(issuer.der)}\n`,
      issuer_id: issuer.id,
      issuer_name: issuer.name,
    });
  }

  #readIssuer(ref: string): VaultAnswer {
    const issuer = this.#find(ref);
    return dataAnswer({
      ca_chain: this.chainOf(issuer).map((der) => `${pemOf(der)}\n`),
      certificate: `${pemOf(issuer.der)}\n`,
      crl_distribution_points: [],
      delta_crl_distribution_points: [],
      issuer_id: issuer.id,
      issuer_name: issuer.name,
      issuing_certificates: [],
      key_id: issuer.keyId,
      leaf_not_after_behavior: 'err',
      manual_chain: issuer.manualChain === null ? null : issuer.manualChain.map(pemOf),
      ocsp_servers: [],
      revocation_signature_algorithm: 'ECDSAWithSHA256',
      revoked: false,
      usage: 'crl-signing,issuing-certificates,ocsp-signing,read-only',
    });
  }

  #configureIssuers({ method, body }: VaultRequest): VaultAnswer {
    if (method !== 'GET') this.defaultId = this.#find(textOf(body, 'default')).id;
    return dataAnswer({ default: this.defaultId, default_follows_latest_issuer: false });
  }

  async #generate({ body }: VaultRequest, rest: string): Promise<VaultAnswer> {
    const isOld = this.#flavour === 'vault-1.8';
    if (isOld && rest.startsWith('root/rotate')) throw new VaultFailure(404, 'unsupported path');
    if (isOld && this.issuers.length > 0) {
      return dataAnswer(null, [
        'Refusing to generate a root certificate over an existing root certificate. If you really want to destroy the original root certificate, please issue a delete against pki/root.',
      ]);
    }
    const { der, id, name, keyId } = await this.generateRoot(body);
    return dataAnswer(
      {
        certificate: pemOf(der),
        expiration: Math.floor(parseCertificate(der).notAfterMs / 1_000),
        ...(isOld ? {} : { issuer_id: id, issuer_name: name, key_id: keyId, key_name: '' }),
        issuing_ca: pemOf(der),
        serial_number: serialOf(der),
      },
      this.#warnings(),
    );
  }

  #deleteRoot(): VaultAnswer {
    this.issuers.length = 0;
    this.defaultId = '';
    return NO_CONTENT;
  }

  async #generateCsr({ body }: VaultRequest): Promise<VaultAnswer> {
    const signer = newSigner();
    this.#pendingKey = { signer, keyId: randomUUID() };
    const csr = await makeCsr(signer, textOf(body, 'common_name'));
    const keyId = this.#flavour === 'vault-1.8' ? {} : { key_id: this.#pendingKey.keyId };
    return dataAnswer({ csr, ...keyId }, this.#warnings([], AIA_INTERMEDIATE));
  }

  #setSigned({ body }: VaultRequest): VaultAnswer {
    const [own, ...above] = decodePem(textOf(body, 'certificate'), 'CERTIFICATE');
    const pending = this.#pendingKey;
    if (own === undefined || pending === null) throw new VaultRefusal(400, ['no key to go with it']);
    if (this.#flavour === 'vault-1.8') {
      this.issuers.length = 0;
      this.uploadedChain = above;
      this.defaultId = this.add(own, pending.signer).id;
      return NO_CONTENT;
    }
    const imported = [this.add(own, pending.signer), ...above.map((der) => this.add(der, null))];
    return dataAnswer(
      {
        existing_issuers: null,
        existing_keys: null,
        imported_issuers: imported.map(({ id }) => id),
        imported_keys: null,
        mapping: Object.fromEntries(imported.map(({ id }, i) => [id, i === 0 ? pending.keyId : ''])),
      },
      this.#warnings(),
    );
  }
}
