/**
 * The one door to `node-vault`, for what uses Vault alone: loading it costs a process some 10 MB and 100 ms.
 *
 * Of the library's own environment nothing counts here (VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE, VAULT_SKIP_VERIFY,
 * DEBUG): a CA is configured by its file.
 */
import nodeVault from 'node-vault';

/** Sends what the library has put together: `request-promise` is what it calls its transport. */
export type VaultLibraryTransport = (options: {
  readonly method: string;
  readonly uri: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: object | boolean;
  readonly signal?: AbortSignal;
}) => Promise<{
  readonly statusCode: number;
  readonly body: unknown;
  readonly request: { readonly path: string };
}>;

/** The calls of `node-vault` that Kedge makes. */
export interface VaultLibrary {
  read(path: string, options: object): Promise<unknown>;
  list(path: string, options: object): Promise<unknown>;
  write(path: string, data: object, options: object): Promise<unknown>;
}

/** A client of `node-vault` over a transport of ours, because its own bounds neither bodies nor redirects. */
export function openVaultLibrary(
  endpoint: string,
  namespace: string | null,
  transport: VaultLibraryTransport,
): VaultLibrary {
  const options = {
    endpoint,
    apiVersion: 'v1',
    // A LIST that goes as a GET passes through proxies that know no such method.
    noCustomHTTPVerbs: true,
    'request-promise': { defaults: () => transport },
    // Its own writes bodies to standard error when the environment has DEBUG=node-vault.
    debug: () => {},
  };
  const client = nodeVault(options);
  // What the environment may have given it.
  Object.assign(client, { token: '', namespace: namespace ?? '', pathPrefix: '' });
  return client;
}
