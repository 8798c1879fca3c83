import { dirname, resolve } from 'node:path';
import * as z from 'zod';
import { readSmallFile } from '../../host/small-file.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { Secret } from '../../pki/secret.ts';
import { readYaml } from '../yaml-document.ts';
import { type Authentication, type ClusterAccess, parseServer, type Source } from './cluster-access.ts';

/** The namespace of a context that names none. */
const DEFAULT_NAMESPACE = 'default';

const text = z.string().max(1_024).optional();
const data = z
  .string()
  .max(256 * 1024)
  .optional();

/** What Kedge reads of a kubeconfig (`kind: Config`, version v1 of client-go's `clientcmd`); the rest is let pass. */
const KUBECONFIG = z.object({
  'current-context': text,
  contexts: z
    .array(z.object({ name: z.string(), context: z.object({ cluster: text, user: text, namespace: text }) }))
    .nullish(),
  clusters: z
    .array(
      z.object({
        name: z.string(),
        cluster: z.object({
          server: text,
          'tls-server-name': text,
          'certificate-authority': text,
          'certificate-authority-data': data,
          'insecure-skip-tls-verify': z.boolean().optional(),
          'proxy-url': text,
        }),
      }),
    )
    .nullish(),
  users: z
    .array(
      z.object({
        name: z.string(),
        user: z
          .object({
            token: data,
            tokenFile: text,
            'client-certificate': text,
            'client-certificate-data': data,
            'client-key': text,
            'client-key-data': data,
            username: text,
            exec: z.unknown().optional(),
            'auth-provider': z.unknown().optional(),
            as: text,
          })
          .nullish(),
      }),
    )
    .nullish(),
});

type Kubeconfig = z.infer<typeof KUBECONFIG>;
type Cluster = NonNullable<Kubeconfig['clusters']>[number]['cluster'];
type User = NonNullable<NonNullable<Kubeconfig['users']>[number]['user']>;

/**
 * The cluster that a kubeconfig gives for a context, `current-context` unless one is named. Relative paths start at the
 * file's folder. Throws `config_invalid` with file and key, and for what Kedge does not do: skipped TLS checks, a
 * proxy, passwords, plugins; `file_unreadable`, `message_too_large`.
 */
export async function kubeconfigAccess(path: string, contextName?: string): Promise<ClusterAccess> {
  const bytes = await readSmallFile(path, LIMITS.kubeconfigBytes, 'the kubeconfig');
  return parseKubeconfig(Buffer.from(bytes).toString('utf8'), path, contextName);
}

/** The same from the text of a kubeconfig; `path` is where it stands. */
export function parseKubeconfig(yaml: string, path: string, contextName?: string): ClusterAccess {
  const config = readYaml(yaml, path, KUBECONFIG);
  const chosen = contextName ?? config['current-context'] ?? '';
  const context = named(config.contexts, chosen, 'context', path).context;
  const { cluster } = named(config.clusters, context.cluster ?? '', 'cluster', path);
  const user = (context.user ?? '') === '' ? {} : named(config.users, context.user ?? '', 'user', path).user;
  const folder = dirname(resolve(path));
  refuseUnsupported(cluster, user ?? {}, path);
  if (cluster.server === undefined)
    throw invalid(path, `cluster ${quote(context.cluster ?? '')} has no server`);
  const source = sourceReader(folder, path);
  return {
    server: parseServer(cluster.server, `${path}: server`),
    tlsServerName: present(cluster['tls-server-name']),
    certificateAuthority: source(
      cluster['certificate-authority-data'],
      cluster['certificate-authority'],
      'certificate-authority-data',
    ),
    authentication: authenticationOf(user ?? {}, source, path),
    namespace: present(context.namespace) ?? DEFAULT_NAMESPACE,
  };
}

type SourceReader = (base64: string | undefined, file: string | undefined, key: string) => Source | undefined;

/** Inline data win over a file, as in client-go. */
function sourceReader(folder: string, path: string): SourceReader {
  return (base64, file, key) => {
    if (present(base64) !== undefined) {
      const bytes = Buffer.from(base64 ?? '', 'base64');
      if (bytes.length === 0) throw invalid(path, `${key} is not base64`);
      return { kind: 'inline', bytes: new Secret(bytes) };
    }
    return present(file) === undefined ? undefined : { kind: 'file', path: resolve(folder, file ?? '') };
  };
}

/** A token wins over a client certificate, and a token file over a token, as in client-go. */
function authenticationOf(user: User, source: SourceReader, path: string): Authentication {
  const tokenFile = source(undefined, user.tokenFile, 'tokenFile');
  if (tokenFile !== undefined) return { kind: 'token', token: tokenFile };
  if (present(user.token) !== undefined) {
    return { kind: 'token', token: { kind: 'inline', bytes: new Secret(Buffer.from(user.token ?? '')) } };
  }
  const certificate = source(
    user['client-certificate-data'],
    user['client-certificate'],
    'client-certificate-data',
  );
  const key = source(user['client-key-data'], user['client-key'], 'client-key-data');
  if (certificate === undefined && key === undefined) return { kind: 'none' };
  if (certificate === undefined || key === undefined) {
    throw invalid(
      path,
      'the user has a client certificate without its key, or a key without its certificate',
    );
  }
  return { kind: 'clientCertificate', certificate, key };
}

function refuseUnsupported(cluster: Cluster, user: User, path: string): void {
  if (cluster['insecure-skip-tls-verify'] === true) {
    throw invalid(path, 'insecure-skip-tls-verify is on: whoever stands between would get the tokens', {
      hint: 'give the CA by certificate-authority-data',
    });
  }
  if (present(cluster['proxy-url']) !== undefined) throw invalid(path, 'proxy-url is not supported');
  if (present(user.username) !== undefined) throw invalid(path, 'Kubernetes has no passwords since 1.19');
  if (present(user.as) !== undefined) throw invalid(path, 'impersonation (as) is not supported');
  if (user.exec !== undefined || user['auth-provider'] !== undefined) {
    throw invalid(path, 'the user takes its credentials from a plugin (exec, auth-provider)', {
      hint: 'use a token, a token file or a client certificate; kubectl create token makes one',
    });
  }
}

function named<T extends { readonly name: string }>(
  all: readonly T[] | null | undefined,
  name: string,
  what: string,
  path: string,
): T {
  const found = all?.find((one) => one.name === name);
  if (found !== undefined) return found;
  const names = (all ?? []).map((one) => quote(one.name));
  throw invalid(path, name === '' ? `no ${what} is chosen` : `there is no ${what} ${quote(name)}`, {
    hint: names.length === 0 ? `the file has none` : `there are ${names.slice(0, 8).join(', ')}`,
  });
}

/** client-go takes an empty text for one that is missing. */
function present(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}

function invalid(path: string, problem: string, options: { readonly hint?: string } = {}): KedgeError {
  return new KedgeError('config_invalid', `kubeconfig ${quote(path, 200)}: ${problem}`, options);
}
