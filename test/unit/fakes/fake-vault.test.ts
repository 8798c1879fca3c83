/** The fake Vault against what a Vault 1.8 and an OpenBao 2.6 were recorded to answer. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseCertificate } from '../../../pki/certificate.ts';
import { decodePem } from '../../../pki/pem.ts';
import { x509 } from '../../../pki/x509-library.ts';
import { FakeVault, ROOT_TOKEN } from '../../fakes/fake-vault.ts';
import type { VaultFlavour } from '../../fakes/vault/vault-answer.ts';

interface Recorded {
  readonly label: string;
  readonly request: {
    readonly method: string;
    readonly path: string;
    readonly token: string;
    readonly body?: unknown;
  };
  readonly response: {
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly json?: unknown;
    readonly text?: string;
  };
}

const FOLDER = join(import.meta.dirname, '../../fakes/recorded');
const START_MS = Date.parse('2026-11-23T21:18:54Z');
/** Another value in each run: only that it is there, and of which type, is compared. */
const VOLATILE = new Set([
  'server_time_utc',
  'expiration',
  'creation_time',
  'ttl',
  'cluster_name',
  'commit_date',
]);

/** What a certificate says, without key, name of the key, and times as such. */
function described(pem: string): string {
  const der = decodePem(pem, 'CERTIFICATE')[0]!;
  const { notAfterMs, notBeforeMs, basicConstraints, keyUsage, subjectAltName, ...rest } =
    parseCertificate(der);
  const { subject, issuer } = new x509.X509Certificate(new Uint8Array(der));
  const extensions = rest.extensions.map(({ oidContent, critical }) => [
    Buffer.from(oidContent).toString('hex'),
    critical,
  ]);
  const lifetime = notAfterMs - notBeforeMs;
  const said = {
    subject,
    issuer,
    lifetime,
    basicConstraints,
    usages: keyUsage?.usages,
    subjectAltName,
    extensions,
  };
  return `<${JSON.stringify(said)}>`;
}

function comparable(value: unknown, name = ''): unknown {
  if (VOLATILE.has(name)) return `<${typeof value}>`;
  if (typeof value === 'string') {
    return value
      .replaceAll(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g, described)
      .replaceAll(/-----BEGIN (X509 CRL|CERTIFICATE REQUEST)-----[^]*?-----END \1-----/g, '<$1>')
      .replaceAll(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, '<uuid>')
      .replaceAll(/<(?:role_id|secret_id|secret_id_accessor|accessor)-\d+>/g, '<uuid>')
      .replaceAll(/<client_token-\d+>|s\.[0-9a-f]{32}/g, '<token>')
      .replaceAll(/(?:[0-9a-f]{2}:){15,19}[0-9a-f]{2}/g, '<serial>')
      .replaceAll(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/g, '<time>')
      .replaceAll(/^vault:(v\d+):.*$/g, 'vault:$1:<sealed>');
  }
  if (Array.isArray(value)) {
    const items = value.map((item) => comparable(item));
    // Issuers come in the order of their ids, which are random.
    return name === 'keys' || name === 'imported_issuers'
      ? items.toSorted((a, b) => (String(a) < String(b) ? -1 : 1))
      : items;
  }
  if (typeof value !== 'object' || value === null) return value;
  if (name === 'keys') return Object.keys(value);
  if (name === 'key_info' || name === 'mapping') {
    return Object.values(value)
      .map((member) => JSON.stringify(comparable(member)))
      .toSorted();
  }
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([member, inner]) => [member, comparable(inner, member)]),
  );
}

/** Replays what was recorded, with the fake's own ids, tokens, CSRs and certificates in place of the recorded ones. */
async function replay(flavour: VaultFlavour, compare: (label: string, got: unknown, want: unknown) => void) {
  const { recorded } = JSON.parse(readFileSync(join(FOLDER, `${flavour}.json`), 'utf8')) as {
    recorded: readonly Recorded[];
  };
  const fake = await FakeVault.start({ flavour, now: () => START_MS });
  try {
    /** Recorded value → what the fake has for it. */
    const own = new Map<string, string>();
    let login = 'not-a-token';
    for (const { label, request, response } of recorded) {
      let text = typeof request.body === 'string' ? request.body : JSON.stringify(request.body);
      for (const [theirs, ours] of own) {
        text = text?.replaceAll(JSON.stringify(theirs).slice(1, -1), JSON.stringify(ours).slice(1, -1));
      }
      const token = { none: undefined, root: ROOT_TOKEN, other: login }[request.token];
      // Node's parser of requests knows no LIST; Vault takes a GET that says `list` for it.
      const [method, query] = request.method === 'LIST' ? ['GET', '?list=true'] : [request.method, ''];
      const answer = await fetch(`${fake.url}${request.path}${query}`, {
        method,
        headers: {
          ...(token === undefined ? {} : { 'x-vault-token': token }),
          ...(label === 'namespace header' ? { 'x-vault-namespace': 'team' } : {}),
        },
        ...(text === undefined ? {} : { body: text }),
      });
      const body = await answer.text();
      const isJson = response.json !== undefined;
      const got: unknown = isJson ? JSON.parse(body) : body;
      compare(
        label,
        {
          status: answer.status,
          type: answer.headers.get('content-type'),
          said: comparable(got),
        },
        {
          status: response.status,
          type: response.headers['content-type'],
          said: comparable(response.json ?? response.text),
        },
      );
      remember(response.json, got, own);
      const auth = (got as { auth?: { client_token?: string } | null }).auth;
      if (label === 'approle login') login = auth?.client_token ?? login;
    }
    return recorded.length;
  } finally {
    await fake.close();
  }
}

/** Notes what the fake has where the recording has something of its own. */
function remember(theirs: unknown, ours: unknown, own: Map<string, string>): void {
  if (typeof theirs === 'string' && typeof ours === 'string') {
    if (/^(<|vault:|-----BEGIN)/.test(theirs)) own.set(theirs, ours);
    return;
  }
  if (typeof theirs !== 'object' || theirs === null) return;
  for (const [name, member] of Object.entries(theirs)) {
    remember(member, (ours as Record<string, unknown> | null)?.[name], own);
  }
}

for (const [flavour, name] of [
  ['vault-1.8', 'Vault 1.8'],
  ['openbao-2.6', 'OpenBao 2.6'],
] as const) {
  describe(`the fake Vault as ${name}`, () => {
    it('answers each recorded request as the real one did', async () => {
      const compared = await replay(flavour, (label, got, want) => assert.deepEqual(got, want, label));
      assert.ok(compared >= 70, `${compared} compared`);
    });
  });
}
