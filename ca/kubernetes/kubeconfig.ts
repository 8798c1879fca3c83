import { delimiter, dirname, resolve } from 'node:path';
import { errnoOf } from '../../host/errno.ts';
import { readSmallFile } from '../../host/small-file.ts';
import { isKedgeError, KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { Secret } from '../../pki/secret.ts';
import { readYaml } from '../yaml-document.ts';
import { type Authentication, type ClusterAccess, parseServer, type Source } from './cluster-access.ts';
import { type ExecPlugin, isExecApiVersion } from './exec-plugin.ts';
import { type Cluster, type Exec, KUBECONFIG, type Kubeconfig, type User } from './kubeconfig-schema.ts';

/** The extension of a cluster that is for its plugins. */
const EXEC_EXTENSION = 'client.authentication.k8s.io/exec';

/** The namespace of a context that names none. */
const DEFAULT_NAMESPACE = 'default';

/** One kubeconfig: its text, and where it stands. */
export interface KubeconfigFile {
  readonly path: string;
  readonly yaml: string;
}

/**
 * The cluster that kubeconfigs give for a context, `current-context` unless one is named. Of several files, those that
 * are missing are passed over. Relative paths start at the folder of the file that they stand in. Throws `config_invalid`
 * with file and key, and for what Kedge does not do: skipped TLS checks, a proxy, passwords; `file_unreadable`,
 * `message_too_large`.
 */
export async function kubeconfigAccess(
  paths: readonly string[],
  contextName?: string,
): Promise<ClusterAccess> {
  const files: KubeconfigFile[] = [];
  for (const path of paths) {
    try {
      const bytes = await readSmallFile(path, LIMITS.kubeconfigBytes, 'the kubeconfig');
      files.push({ path, yaml: Buffer.from(bytes).toString('utf8') });
    } catch (error) {
      const isMissing = isKedgeError(error, 'file_unreadable') && errnoOf(error.cause) === 'ENOENT';
      const isLastHope = files.length === 0 && path === paths.at(-1);
      if (!isMissing || isLastHope) throw error;
    }
  }
  return parseKubeconfigs(files, contextName);
}

/**
 * The same from the texts of kubeconfigs. Of a name that stands in several the first one counts, whole, and the first
 * `current-context` that is one; as in client-go.
 * https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#merging-kubeconfig-files
 */
export function parseKubeconfigs(files: readonly KubeconfigFile[], contextName?: string): ClusterAccess {
  const read = files.map(({ path, yaml }) => ({ path, config: readYaml(yaml, path, KUBECONFIG) }));
  const all = <T extends object>(of: (config: Kubeconfig) => readonly T[] | null | undefined) =>
    read.flatMap(({ path, config }) => (of(config) ?? []).map((one) => ({ ...one, path })));
  const where = files.map(({ path }) => path).join(delimiter);
  const current = read
    .map(({ config }) => present(config['current-context']))
    .find((one) => one !== undefined);

  const { context, path } = named(
    all((config) => config.contexts),
    contextName ?? current ?? '',
    'context',
    where,
  );
  const found = named(
    all((config) => config.clusters),
    context.cluster ?? '',
    'cluster',
    where,
  );
  const holder =
    present(context.user) === undefined
      ? { user: {}, path }
      : named(
          all((config) => config.users),
          context.user ?? '',
          'user',
          where,
        );
  const { cluster } = found;
  const user = holder.user ?? {};
  refuseUnsupported(cluster, found.path, user, holder.path);
  if (cluster.server === undefined) {
    throw invalid(found.path, `cluster ${quote(context.cluster ?? '')} has no server`);
  }
  const ofCluster = sourceReader(found.path);
  return {
    server: parseServer(cluster.server, `${found.path}: server`),
    tlsServerName: present(cluster['tls-server-name']),
    certificateAuthority: ofCluster(
      cluster['certificate-authority-data'],
      cluster['certificate-authority'],
      'certificate-authority-data',
    ),
    authentication: authenticationOf(user, cluster, holder.path),
    namespace: present(context.namespace) ?? DEFAULT_NAMESPACE,
  };
}

type SourceReader = (base64: string | undefined, file: string | undefined, key: string) => Source | undefined;

/** Inline data win over a file, as in client-go. */
function sourceReader(path: string): SourceReader {
  const folder = dirname(resolve(path));
  return (base64, file, key) => {
    if (present(base64) !== undefined) {
      const bytes = Buffer.from(base64 ?? '', 'base64');
      if (bytes.length === 0) throw invalid(path, `${key} is not base64`);
      return { kind: 'inline', bytes: new Secret(bytes) };
    }
    return present(file) === undefined ? undefined : { kind: 'file', path: resolve(folder, file ?? '') };
  };
}

/** A token wins over a client certificate, a token file over a token, and each over a plugin, as in client-go. */
function authenticationOf(user: User, cluster: Cluster, path: string): Authentication {
  const source = sourceReader(path);
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
  if (certificate === undefined && key === undefined) {
    return user.exec === undefined || user.exec === null
      ? { kind: 'none' }
      : { kind: 'exec', plugin: pluginOf(user.exec, cluster, path) };
  }
  if (certificate === undefined || key === undefined) {
    throw invalid(
      path,
      'the user has a client certificate without its key, or a key without its certificate',
    );
  }
  return { kind: 'clientCertificate', certificate, key };
}

/** A command with a slash in it starts at the kubeconfig's folder; a bare name is looked for in PATH, as in client-go. */
function pluginOf(exec: Exec, cluster: Cluster, path: string): ExecPlugin {
  const { apiVersion = '', command = '', args, env, installHint, provideClusterInfo, interactiveMode } = exec;
  if (!isExecApiVersion(apiVersion)) {
    throw invalid(path, `exec.apiVersion ${quote(apiVersion)} is not spoken here`, {
      hint: 'use client.authentication.k8s.io/v1 or v1beta1; newer versions of the plugin speak them',
    });
  }
  if (command === '') throw invalid(path, 'exec has no command');
  if (interactiveMode === 'Always') {
    throw invalid(path, 'exec.interactiveMode is Always, and nobody is asked anything here', {
      hint: 'use a user whose plugin works without a terminal',
    });
  }
  const hint = present(installHint);
  return {
    apiVersion,
    command: /[/\\]/.test(command) ? resolve(dirname(resolve(path)), command) : command,
    args: args ?? [],
    environment: Object.fromEntries((env ?? []).map(({ name, value }) => [name, value])),
    ...(hint === undefined ? {} : { installHint: hint }),
    ...(provideClusterInfo === true ? { cluster: clusterInfo(cluster) } : {}),
  };
}

/** `spec.cluster` of an ExecCredential. */
function clusterInfo(cluster: Cluster): Readonly<Record<string, unknown>> {
  const extension = (cluster.extensions ?? []).find(({ name }) => name === EXEC_EXTENSION)?.extension;
  return {
    server: cluster.server,
    'tls-server-name': present(cluster['tls-server-name']),
    'certificate-authority-data': present(cluster['certificate-authority-data']),
    ...(extension === undefined ? {} : { config: extension }),
  };
}

function refuseUnsupported(cluster: Cluster, clusterPath: string, user: User, path: string): void {
  if (cluster['insecure-skip-tls-verify'] === true) {
    throw invalid(
      clusterPath,
      'insecure-skip-tls-verify is on: whoever stands between would get the tokens',
      {
        hint: 'give the CA by certificate-authority-data',
      },
    );
  }
  if (present(cluster['proxy-url']) !== undefined) throw invalid(clusterPath, 'proxy-url is not supported');
  if (present(user.username) !== undefined) throw invalid(path, 'Kubernetes has no passwords since 1.19');
  if (present(user.as) !== undefined) throw invalid(path, 'impersonation (as) is not supported');
  if (user['auth-provider'] !== undefined && user['auth-provider'] !== null) {
    throw invalid(path, 'auth-provider went out of Kubernetes with 1.26', {
      hint: 'use a plugin (exec), a token, a token file or a client certificate',
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
