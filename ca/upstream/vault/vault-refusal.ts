import { KedgeError, quote } from '../../../pki/kedge-error.ts';
import type { JsonMembers } from './vault-answer.ts';
import type { VaultHttpAnswer } from './vault-transport.ts';

/** A call, for what is said of its refusal. */
export interface RefusedCall {
  /** Behind `/v1/`. */
  readonly path: string;
  /** The capability that a policy must grant for it. */
  readonly capability: 'read' | 'list' | 'update';
  /** What the path is of, where a 404 says that it is not there; begins a sentence's end: `a PKI mount`. */
  readonly mountKind: string;
}

const MESSAGE_CHARS = 200;
/** Of what Vault says, so much is looked at. */
const SAID_CHARS = 2_000;
/** A longer wait is cut to this, milliseconds: whoever waits must look again some time. */
const RETRY_AFTER_CAP_MS = 600_000;

/** The `errors` of an answer of Vault; empty where it has none. */
export function errorsOf(body: JsonMembers): readonly string[] {
  const { errors } = body;
  return Array.isArray(errors) ? errors.filter((error) => typeof error === 'string') : [];
}

/**
 * The error that an answer other than 200 and 204 means. `body` is its JSON.
 *
 * Status codes: https://developer.hashicorp.com/vault/api-docs#http-status-codes and `sys/health`. What Vault writes
 * into `errors` decides only where one status stands for several things.
 */
export function refusalOf(call: RefusedCall, answer: VaultHttpAnswer, body: JsonMembers): KedgeError {
  const { status } = answer;
  // Vault lists what went wrong with bullets of its own.
  const said = errorsOf(body)
    .join('; ')
    // Before any pattern: what looks for spaces and digits takes the square of what it is given.
    .slice(0, SAID_CHARS)
    .replaceAll(/\d+ errors? occurred:|\s*\n\s*\*?\s*/g, ' ')
    .trim();
  const what = `Vault answered ${status} to ${quote(call.path, 200)}${said === '' ? '' : `: ${quote(said, MESSAGE_CHARS)}`}`;
  const retryMs = retryAfterMs(answer.retryAfter);
  const error = (
    code: ConstructorParameters<typeof KedgeError>[0],
    hint: string,
    retry = retryMs,
  ): KedgeError =>
    new KedgeError(code, what, { hint, ...(retry === undefined ? {} : { retryAfterMs: retry }) });

  if (body['sealed'] === true || /is sealed/i.test(said)) {
    return error('vault_sealed', 'unseal it: vault operator unseal');
  }
  if (body['initialized'] === false || status === 501) {
    return error('vault_sealed', 'it is not initialized: vault operator init, then vault operator unseal');
  }
  if (status === 472 || status === 473 || body['standby'] === true || /not active/.test(said)) {
    return error('vault_standby', STANDBY_HINT);
  }
  if (status >= 300 && status <= 399) {
    return error('vault_standby', `it redirects, as a standby does that cannot forward; ${STANDBY_HINT}`);
  }
  if (/namespace not found|route entry not found in namespace/.test(said)) {
    return error('vault_namespace_missing', 'correct upstream.vault.namespace: vault namespace list');
  }
  switch (status) {
    case 403:
      return error('vault_forbidden', missingPolicy(call));
    case 404:
      return /no handler for route/.test(said)
        ? error('vault_mount_missing', `there is no ${call.mountKind} there: vault secrets list`)
        : error('vault_refused', 'this Vault has no such path, or nothing under it');
    case 429:
      return error('vault_throttled', 'a rate limit quota of Vault: vault list sys/quotas/rate-limit');
    default:
      // 412: a performance standby that lags behind what this token was told elsewhere.
      if (status >= 500 || status === 412) return error('vault_unavailable', "see Vault's own log");
      return error('vault_refused', "see Vault's audit log, and upstream.vault in the configuration");
  }
}

const STANDBY_HINT =
  'give the address of the active node, or of a load balancer that asks /v1/sys/health (upstream.vault.address)';

/** The line of a policy that grants what was refused. */
export function missingPolicy({ path, capability }: Pick<RefusedCall, 'path' | 'capability'>): string {
  return `grant by a policy of the token: path "${path.replaceAll(/[^\w/.+-]/g, '?')}" { capabilities = ["${capability}"] }`;
}

/** Whether a refusal says that a public path is not public here: the mount or the version has no such path. */
export function isUnknownPublicPath(status: number, errors: readonly string[]): boolean {
  if (status === 403 || status === 405) return true;
  if (status === 404) return errors.length > 0;
  return status === 400 && errors.some((error) => /missing client token/.test(error));
}

/** Seconds (RFC 9110 section 10.2.3; a date counts as absent). */
function retryAfterMs(header: string | undefined): number | undefined {
  if (header === undefined || !/^\d{1,9}$/.test(header)) return undefined;
  return Math.min(Number(header) * 1_000, RETRY_AFTER_CAP_MS);
}
