import { execFile } from 'node:child_process';
import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { isJsonObject, membersOf } from './api-answer.ts';

/**
 * A program that hands out credentials, as a kubeconfig names it (`exec` of a user): the API
 * `client.authentication.k8s.io` of client-go, v1 and v1beta1.
 * https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins.
 */
export interface ExecPlugin {
  readonly apiVersion: string;
  /** A path, or a name that is looked for in PATH. */
  readonly command: string;
  readonly args: readonly string[];
  /** What it finds in its environment beside ours. */
  readonly environment: Readonly<Record<string, string>>;
  /** What it is told of the cluster; absent = nothing. */
  readonly cluster?: Readonly<Record<string, unknown>>;
  /** How to get the program where there is none. */
  readonly installHint?: string;
}

/** What a plugin has handed out. At least one of token and certificate. */
export interface ExecCredential {
  readonly token: Uint8Array | undefined;
  /** PEM, both or none. */
  readonly certificate: Uint8Array | undefined;
  readonly key: Uint8Array | undefined;
  /** Milliseconds since the Unix epoch; null = until the API server refuses it. */
  readonly expiresAtMs: number | null;
}

/** Runs a program to its end; gives its standard output. Rejects with the system's error. */
export type RunProgram = (plugin: ExecPlugin, info: string) => Promise<string>;

const API_VERSIONS = ['client.authentication.k8s.io/v1', 'client.authentication.k8s.io/v1beta1'];
/** Some ask the cloud for what they hand out. */
const TIMEOUT_MS = 60_000;

/** Whether Kedge speaks a version of the plugins' API. */
export function isExecApiVersion(apiVersion: string): boolean {
  return API_VERSIONS.includes(apiVersion);
}

/**
 * Has a plugin hand out credentials. It cannot ask anybody anything: it has no standard input. What it says on standard
 * error goes to ours, as with kubectl. Throws `kubernetes_credentials_unavailable`, whose message holds nothing that the
 * plugin printed.
 */
export async function execCredential(
  plugin: ExecPlugin,
  run: RunProgram = runProgram,
): Promise<ExecCredential> {
  const { apiVersion, cluster, installHint } = plugin;
  const spec = { interactive: false, ...(cluster === undefined ? {} : { cluster }) };
  let output: string;
  try {
    output = await run(plugin, JSON.stringify({ apiVersion, kind: 'ExecCredential', spec }));
  } catch (error) {
    throw unavailable(plugin, whyFailed(error), installHint);
  }
  const answer = parsed(output);
  if (answer === null || answer['kind'] !== 'ExecCredential' || answer['apiVersion'] !== apiVersion) {
    throw unavailable(plugin, `printed no ExecCredential of ${apiVersion}`);
  }
  const status = membersOf(answer['status']);
  const text = (name: string): Uint8Array | undefined => {
    const value = status[name];
    if (value === undefined || value === null || value === '') return undefined;
    if (typeof value !== 'string') throw unavailable(plugin, `printed a ${name} that is no text`);
    return Buffer.from(value);
  };
  const [token, certificate, key] = [text('token'), text('clientCertificateData'), text('clientKeyData')];
  if ((certificate === undefined) !== (key === undefined)) {
    throw unavailable(plugin, 'printed a client certificate without its key, or a key without it');
  }
  if (token === undefined && certificate === undefined) throw unavailable(plugin, 'printed no credentials');
  if (token !== undefined && token.length > LIMITS.tokenBytes) {
    throw unavailable(plugin, `printed a token of over ${LIMITS.tokenBytes} bytes`);
  }
  return { token, certificate, key, expiresAtMs: expiryOf(plugin, status['expirationTimestamp']) };
}

function parsed(json: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(json);
    return isJsonObject(value) ? value : null;
  } catch {
    // The parser's message quotes the text, which is a secret.
    return null;
  }
}

function whyFailed(error: unknown): string {
  const { code, killed } = membersOf(error);
  if (code === 'ENOENT' || code === 'EACCES') return `cannot be run (${code})`;
  if (code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return 'printed too much';
  if (killed === true) return `did not end within ${TIMEOUT_MS / 1000} s`;
  return typeof code === 'number' ? `ended with ${code}` : 'did not end well';
}

function expiryOf(plugin: ExecPlugin, timestamp: unknown): number | null {
  if (timestamp === undefined || timestamp === null) return null;
  const atMs = typeof timestamp === 'string' ? Date.parse(timestamp) : Number.NaN;
  if (!Number.isNaN(atMs)) return atMs;
  throw unavailable(plugin, 'printed an expirationTimestamp that is no time');
}

function runProgram({ command, args, environment }: ExecPlugin, info: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      {
        env: { ...process.env, ...environment, KUBERNETES_EXEC_INFO: info },
        timeout: TIMEOUT_MS,
        maxBuffer: LIMITS.execCredentialBytes,
        encoding: 'utf8',
      },
      (error, stdout) => (error === null ? resolve(stdout) : reject(error)),
    );
    child.stdin?.end();
    child.stderr?.pipe(process.stderr, { end: false });
  });
}

function unavailable({ command }: ExecPlugin, problem: string, hint?: string): KedgeError {
  return new KedgeError(
    'kubernetes_credentials_unavailable',
    `the credential plugin ${quote(command, 200)} of the kubeconfig ${problem}`,
    {
      hint:
        hint === undefined
          ? 'log in as that program asks for it, and try kubectl with the same kubeconfig'
          : quote(hint, 500),
    },
  );
}
