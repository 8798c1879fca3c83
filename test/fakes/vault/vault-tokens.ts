import { randomUUID } from 'node:crypto';
import { authAnswer, dataAnswer, NO_CONTENT, type VaultAnswer, type VaultFlavour } from './vault-answer.ts';
import { VaultRefusal, type VaultRequest } from './vault-answer.ts';

/** A token as the fake keeps it. Times are milliseconds of the fake's clock. */
export interface VaultToken {
  readonly id: string;
  readonly accessor: string;
  readonly policies: readonly string[];
  readonly displayName: string;
  readonly path: string;
  readonly meta: Readonly<Record<string, string>>;
  readonly entityId: string;
  readonly createdMs: number;
  /** Null = never ends. */
  readonly periodSeconds: number | null;
  readonly renewable: boolean;
  /** Beyond which nothing renews it; infinite for none. */
  readonly maxEndMs: number;
  endMs: number;
}

/** What a new token is made of. */
export interface NewToken {
  readonly policies: readonly string[];
  readonly withDefaultPolicy?: boolean;
  readonly ttlSeconds: number | null;
  readonly maxTtlSeconds?: number;
  readonly renewable?: boolean;
  readonly displayName?: string;
  readonly path?: string;
  readonly meta?: Readonly<Record<string, string>>;
}

/** The token store of the fake. */
export class VaultTokens {
  readonly #tokens = new Map<string, VaultToken>();
  readonly #now: () => number;
  readonly #flavour: VaultFlavour;

  constructor(flavour: VaultFlavour, now: () => number) {
    this.#flavour = flavour;
    this.#now = now;
  }

  /** How many tokens there are. */
  get count(): number {
    return this.#tokens.size;
  }

  create(spec: NewToken): VaultToken {
    const nowMs = this.#now();
    const { ttlSeconds, maxTtlSeconds } = spec;
    const token: VaultToken = {
      id: `s.${randomUUID().replaceAll('-', '')}`,
      accessor: randomUUID(),
      policies: [...(spec.withDefaultPolicy === false ? [] : ['default']), ...spec.policies].toSorted(),
      displayName: spec.displayName ?? 'token',
      path: spec.path ?? 'auth/token/create',
      meta: spec.meta ?? {},
      entityId: randomUUID(),
      createdMs: nowMs,
      periodSeconds: ttlSeconds,
      renewable: spec.renewable ?? ttlSeconds !== null,
      maxEndMs: maxTtlSeconds === undefined ? Number.POSITIVE_INFINITY : nowMs + maxTtlSeconds * 1_000,
      endMs: ttlSeconds === null ? Number.POSITIVE_INFINITY : nowMs + ttlSeconds * 1_000,
    };
    this.#tokens.set(token.id, token);
    return token;
  }

  /** The token, unless it has ended or was revoked. */
  get(id: string): VaultToken | undefined {
    const token = this.#tokens.get(id);
    return token === undefined || token.endMs <= this.#now() ? undefined : token;
  }

  revoke(id: string): void {
    this.#tokens.delete(id);
  }

  revokeAll(): void {
    this.#tokens.clear();
  }

  /** `auth/token/*`, for a token that is good. */
  answer({ method, path }: VaultRequest, token: VaultToken): VaultAnswer {
    const name = `${method === 'PUT' ? 'POST' : method} ${path}`;
    if (name === 'GET auth/token/lookup-self') return dataAnswer(this.#lookup(token));
    if (name === 'POST auth/token/renew-self') {
      if (!token.renewable) throw new VaultRefusal(400, ['lease is not renewable']);
      token.endMs = Math.min(this.#now() + (token.periodSeconds ?? 0) * 1_000, token.maxEndMs);
      return this.login(token);
    }
    if (name === 'POST auth/token/revoke-self') {
      this.revoke(token.id);
      return NO_CONTENT;
    }
    throw new VaultRefusal(404, ['unsupported path'], true);
  }

  /** What a login, or a renewal, answers. */
  login(token: VaultToken): VaultAnswer {
    return authAnswer({
      client_token: token.id,
      accessor: token.accessor,
      policies: token.policies,
      token_policies: token.policies,
      metadata: token.meta,
      lease_duration:
        token.endMs === Number.POSITIVE_INFINITY ? 0 : Math.round((token.endMs - this.#now()) / 1_000),
      renewable: token.renewable,
      entity_id: token.entityId,
      token_type: 'service',
      orphan: true,
      ...(this.#flavour === 'vault-1.8' ? {} : { mfa_requirement: null, num_uses: 0 }),
    });
  }

  #lookup(token: VaultToken): object {
    const ttl = token.endMs === Number.POSITIVE_INFINITY ? 0 : (token.endMs - this.#now()) / 1_000;
    return {
      accessor: token.accessor,
      creation_time: Math.floor(token.createdMs / 1_000),
      creation_ttl: token.periodSeconds ?? 0,
      display_name: token.displayName,
      entity_id: token.entityId,
      expire_time: token.endMs === Number.POSITIVE_INFINITY ? null : new Date(token.endMs).toISOString(),
      explicit_max_ttl: 0,
      id: token.id,
      issue_time: new Date(token.createdMs).toISOString(),
      meta: token.meta,
      num_uses: 0,
      orphan: true,
      path: token.path,
      policies: token.policies,
      renewable: token.renewable,
      ttl: Math.floor(ttl),
      type: 'service',
    };
  }
}
