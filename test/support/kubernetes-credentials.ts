/**
 * The throw-away keys and certificates of a control plane, as files: its CA, the API server's certificate, client
 * certificates as kubeconfig files, and the key that signs ServiceAccount tokens.
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OID } from '../../pki/oid.ts';
import { encodePem } from '../../pki/pem.ts';
import { x509 } from '../../pki/x509-library.ts';
import { ext, HOUR_MS, makeCertificate, newSigner, type TestSigner } from './certificates.ts';

const { digitalSignature, keyCertSign } = x509.KeyUsageFlags;
const CA_SUBJECT = 'CN=kubernetes';

/** A client certificate and its key, in PEM. */
export interface ClientCertificate {
  readonly certificate: string;
  readonly key: string;
}

/** The CA of one control plane. */
export class KubernetesCredentials {
  readonly folder: string;
  /** In PEM; also in `ca.crt`. */
  readonly authorities: string;
  readonly #signer: TestSigner;

  private constructor(folder: string, signer: TestSigner, certificate: Uint8Array) {
    this.folder = folder;
    this.#signer = signer;
    this.authorities = encodePem('CERTIFICATE', certificate);
  }

  /** Writes `ca.crt`, `apiserver.crt`, `apiserver.key`, `service-account.key` and `.pub` into a folder. */
  static async make(folder: string): Promise<KubernetesCredentials> {
    const signer = newSigner();
    const certificate = await makeCertificate({
      ...validity(),
      subject: CA_SUBJECT,
      issuer: CA_SUBJECT,
      spki: signer.spki,
      signer,
      extensions: [ext.basicConstraints(true), ext.keyUsage(keyCertSign), ext.subjectKeyId(signer.spki)],
    });
    const credentials = new KubernetesCredentials(folder, signer, certificate);
    credentials.#write('ca.crt', credentials.authorities);
    const server = await credentials.#certificate('CN=kube-apiserver', OID.serverAuth, [
      { type: 'ip', value: '127.0.0.1' },
      ...['localhost', 'kubernetes.default.svc', 'kubernetes.default.svc.cluster.local'].map(
        (value) => ({ type: 'dns', value }) as const,
      ),
    ]);
    credentials.#write('apiserver.crt', server.certificate);
    credentials.#write('apiserver.key', server.key);
    // RS256, as kubeadm makes them.
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    credentials.#write('service-account.key', pem(privateKey));
    credentials.#write('service-account.pub', publicKey.export({ format: 'pem', type: 'spki' }).toString());
    return credentials;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** A certificate with which the API server knows this user, with these groups. */
  async client(user: string, groups: readonly string[] = []): Promise<ClientCertificate> {
    const subject = [...groups.map((group) => `O=${group}`), `CN=${user}`].join(', ');
    return await this.#certificate(subject, OID.clientAuth, []);
  }

  /** The path of a kubeconfig file with which that client talks to `url`. */
  kubeconfig(name: string, url: string, { certificate, key }: ClientCertificate): string {
    const base64 = (text: string): string => Buffer.from(text).toString('base64');
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name, cluster: { server: url, 'certificate-authority-data': base64(this.authorities) } }],
      users: [
        { name, user: { 'client-certificate-data': base64(certificate), 'client-key-data': base64(key) } },
      ],
      contexts: [{ name, context: { cluster: name, user: name } }],
      'current-context': name,
    };
    return this.#write(`${name}.kubeconfig`, JSON.stringify(config));
  }

  async #certificate(
    subject: string,
    purpose: string,
    names: x509.JsonGeneralNames,
  ): Promise<ClientCertificate> {
    const subjectKey = newSigner();
    const der = await makeCertificate({
      ...validity(),
      subject,
      issuer: CA_SUBJECT,
      spki: subjectKey.spki,
      signer: this.#signer,
      extensions: [
        ext.keyUsage(digitalSignature),
        ext.extendedKeyUsage(purpose),
        ext.authorityKeyId(this.#signer.spki),
        ...(names.length === 0 ? [] : [ext.san(names, false)]),
      ],
    });
    return { certificate: encodePem('CERTIFICATE', der), key: pem(subjectKey.privateKey) };
  }

  #write(name: string, content: string): string {
    writeFileSync(this.path(name), content, { mode: 0o600 });
    return this.path(name);
  }
}

function validity(): { notBeforeMs: number; notAfterMs: number } {
  const nowMs = Date.now();
  return { notBeforeMs: nowMs - HOUR_MS, notAfterMs: nowMs + 24 * HOUR_MS };
}

function pem(key: KeyObject): string {
  return key.export({ format: 'pem', type: 'pkcs8' }).toString();
}
