import type { Clock } from '../../../host/clock.ts';
import { withDeadline } from '../../../host/deadline.ts';
import { isKedgeError, KedgeError } from '../../../pki/kedge-error.ts';
import type { ErrorCode } from '../../../pki/error-table.ts';
import { type JsonMembers, readBody } from './vault-answer.ts';
import type { VaultLibrary, VaultLibraryTransport } from './vault-library.ts';
import { errorsOf, isUnknownPublicPath, type RefusedCall, refusalOf } from './vault-refusal.ts';
import type { VaultAccessSettings } from './vault-settings.ts';
import type { VaultHttpAnswer, VaultTransport } from './vault-transport.ts';

/** One call. */
export interface VaultCall {
  readonly operation: 'read' | 'list' | 'write';
  /** Behind `/v1/`, of segments that are checked. */
  readonly path: string;
  readonly body?: object;
  /** Without one the call goes to a public path. */
  readonly token?: string;
  /** What is looked for at the path, for the message when it is not there. */
  readonly mountKind?: string;
}

/** How a call ended, for metrics. */
export type OnVaultCall = (
  operation: VaultCall['operation'],
  code: ErrorCode | 'ok',
  seconds: number,
) => void;

/** What a {@link VaultClient} is made of. */
export interface VaultClientOptions {
  readonly settings: Pick<VaultAccessSettings, 'address' | 'namespace' | 'timeoutMs'>;
  readonly transport: VaultTransport;
  readonly clock: Clock;
  readonly onCall?: OnVaultCall;
}

/** Codes after which `sys/health` may say more than the answer did. */
const UNCLEAR: readonly ErrorCode[] = ['vault_unavailable', 'vault_answer_html', 'vault_answer_empty'];

/**
 * Calls of the Vault HTTP API: one call, one answer, or one error that says what is to be done. No retries.
 *
 * Throws `vault_unreachable`, `vault_sealed`, `vault_standby`, `vault_forbidden`, `vault_throttled`,
 * `vault_mount_missing`, `vault_namespace_missing`, `vault_refused`, `vault_unavailable`, the `vault_answer_` codes,
 * or the signal's reason.
 */
export class VaultClient {
  readonly #options: VaultClientOptions;
  #library: Promise<VaultLibrary> | null = null;
  #clockSkewMs = 0;

  constructor(options: VaultClientOptions) {
    this.#options = options;
  }

  /** How far Vault's clock was ahead of ours at its last answer, by seconds of its `Date` header, milliseconds. */
  get clockSkewMs(): number {
    return this.#clockSkewMs;
  }

  /** The JSON of a 200; an empty object for a 204. */
  async call(call: VaultCall, signal: AbortSignal): Promise<JsonMembers> {
    const { clock, onCall } = this.#options;
    const beginMs = clock.monotonic();
    const end = (code: ErrorCode | 'ok'): void =>
      onCall?.(call.operation, code, (clock.monotonic() - beginMs) / 1_000);
    try {
      const body = await this.#send(call, signal);
      end('ok');
      return body;
    } catch (error) {
      if (!signal.aborted) end(isKedgeError(error) ? error.code : 'vault_unavailable');
      if (isKedgeError(error, ...UNCLEAR)) throw (await this.#diagnosis(call, signal)) ?? error;
      throw error;
    }
  }

  /** The same for a path that is public where it is there; null where Vault, or this mount, has no such path. */
  async callPublic(path: string, signal: AbortSignal): Promise<JsonMembers | null> {
    try {
      return await this.call({ operation: 'read', path }, signal);
    } catch (error) {
      if (error instanceof PublicPathUnknown) return null;
      throw error;
    }
  }

  async #send(call: VaultCall, signal: AbortSignal): Promise<JsonMembers> {
    const { clock, settings } = this.#options;
    const deadline = { clock, timeoutMs: settings.timeoutMs, what: 'Vault' };
    try {
      return await withDeadline(deadline, signal, async (end) => {
        const library = await this.#opened();
        const { operation, path, body = {}, token } = call;
        const options = {
          signal: end,
          headers: token === undefined ? {} : { 'X-Vault-Token': token },
          refusedCall: {
            path,
            capability: ({ read: 'read', list: 'list', write: 'update' } as const)[operation],
            mountKind: call.mountKind ?? 'mount',
          },
        };
        const answer =
          operation === 'write' ? library.write(path, body, options) : library[operation](path, options);
        return (await answer) as JsonMembers;
      });
    } catch (error) {
      if (!isKedgeError(error, 'deadline_exceeded')) throw error;
      throw new KedgeError('vault_unreachable', `${error.message} (${settings.address})`, {
        hint: 'check the network policies between, or raise upstream.vault.timeout',
        cause: error,
      });
    }
  }

  #opened(): Promise<VaultLibrary> {
    const { settings } = this.#options;
    return (this.#library ??= import('./vault-library.ts').then(({ openVaultLibrary }) =>
      openVaultLibrary(settings.address, settings.namespace, this.#transport),
    ));
  }

  /** What `node-vault` sends by. A refusal is thrown from here: the library would keep but a message of it. */
  readonly #transport: VaultLibraryTransport = async (options) => {
    const { refusedCall, signal } = options as typeof options & { refusedCall: RefusedCall };
    const answer = await this.#options.transport.exchange(
      {
        method: options.method,
        url: new URL(options.uri),
        headers: options.headers ?? {},
        body: typeof options.json === 'object' ? JSON.stringify(options.json) : undefined,
      },
      signal ?? new AbortController().signal,
    );
    this.#noteClock(answer);
    const body = saysAllByStatus(answer.status) ? {} : readBody(answer, refusedCall.path);
    if (answer.status !== 200 && answer.status !== 204) {
      const isPublic = options.headers?.['X-Vault-Token'] === undefined;
      const refusal = refusalOf(refusedCall, answer, body);
      throw isPublic && isUnknownPublicPath(answer.status, errorsOf(body))
        ? new PublicPathUnknown(refusal)
        : refusal;
    }
    return { statusCode: answer.status, body, request: { path: refusedCall.path } };
  };

  #noteClock({ dateMs }: VaultHttpAnswer): void {
    if (dateMs === null) return;
    // The header has whole seconds: within one of them nothing is known.
    const skewMs = dateMs - this.#options.clock.now();
    this.#clockSkewMs = skewMs > -1_000 && skewMs <= 0 ? 0 : skewMs;
  }

  /** What `sys/health` says where an answer did not: that Vault is sealed or a standby. Null if it says nothing. */
  async #diagnosis({ path }: VaultCall, signal: AbortSignal): Promise<KedgeError | null> {
    const { clock, settings, transport } = this.#options;
    const deadline = { clock, timeoutMs: settings.timeoutMs, what: 'Vault' };
    const url = new URL('/v1/sys/health', settings.address);
    try {
      const answer = await withDeadline(deadline, signal, (end) =>
        transport.exchange({ method: 'GET', url, headers: {}, body: undefined }, end),
      );
      if (answer.status === 200) return null;
      const call = { path, capability: 'read', mountKind: 'mount' } as const;
      // 429 of this path is a standby that is not throttled.
      const body = { standby: answer.status === 429, ...readBody(answer, 'sys/health') };
      const refusal = refusalOf(call, answer, body);
      return isKedgeError(refusal, 'vault_sealed', 'vault_standby') ? refusal : null;
    } catch {
      return null;
    }
  }
}

/** A standby's redirect has no body, and need not have one to be understood; 472 and 473 are Vault's own. */
function saysAllByStatus(status: number): boolean {
  return (status >= 300 && status <= 399) || status === 472 || status === 473;
}

/** A public path was refused in a way that says that there is no such path; `message` and code as ever. */
export class PublicPathUnknown extends KedgeError {
  constructor({ code, message, hint, cause }: KedgeError) {
    super(code, message, { ...(hint === undefined ? {} : { hint }), cause });
  }
}
