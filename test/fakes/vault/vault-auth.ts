import { randomUUID } from 'node:crypto';
import { dataAnswer, NO_CONTENT, seconds, textOf, VaultRefusal } from './vault-answer.ts';
import type { VaultAnswer, VaultFlavour, VaultRequest } from './vault-answer.ts';
import type { VaultTokens } from './vault-tokens.ts';

/** A role of any auth method. */
export interface VaultRole {
  policies: readonly string[];
  ttlSeconds: number;
  maxTtlSeconds: number;
  renewable: boolean;
  withDefaultPolicy: boolean;
  /** AppRole. */
  readonly roleId: string;
  readonly secretIds: Set<string>;
  /** Kubernetes, JWT: the token that is taken. */
  jwt: string;
  /** Certificate: the common name that is taken. */
  commonName: string;
}

/** One mount below `auth/`: its roles by name, and its login. */
export class VaultAuthMount {
  readonly roles = new Map<string, VaultRole>();
  readonly kind: string;
  readonly #flavour: VaultFlavour;
  readonly #tokens: VaultTokens;

  constructor(kind: string, flavour: VaultFlavour, tokens: VaultTokens) {
    this.kind = kind;
    this.#flavour = flavour;
    this.#tokens = tokens;
  }

  role(name: string, role: Partial<VaultRole> = {}): VaultRole {
    const made: VaultRole = {
      policies: [],
      ttlSeconds: 120,
      maxTtlSeconds: 300,
      renewable: true,
      withDefaultPolicy: true,
      roleId: randomUUID(),
      secretIds: new Set(),
      jwt: '',
      commonName: '',
      ...role,
    };
    this.roles.set(name, made);
    return made;
  }

  isPublic(method: string, rest: string): boolean {
    return (method === 'POST' || method === 'PUT') && rest === 'login';
  }

  answer(request: VaultRequest, mount: string, rest: string): VaultAnswer {
    const { method, body } = request;
    if (this.isPublic(method, rest)) return this.#login(request, mount);
    const [area, name = '', part] = rest.split('/');
    if (area !== 'role' || this.kind !== 'approle') throw new VaultRefusal(404, ['unsupported path'], true);
    if (method === 'POST' && part === undefined) {
      this.role(name, {
        policies: textOf(body, 'token_policies').split(',').filter(Boolean),
        ttlSeconds: seconds(body['token_ttl']) ?? 2_764_800,
        maxTtlSeconds: seconds(body['token_max_ttl']) ?? 2_764_800,
        withDefaultPolicy: body['token_no_default_policy'] !== true,
      });
      return NO_CONTENT;
    }
    const role = this.roles.get(name);
    if (role === undefined) throw new VaultRefusal(404, []);
    if (method === 'GET' && part === 'role-id') return dataAnswer({ role_id: role.roleId });
    if (method === 'POST' && part === 'secret-id') {
      const secretId = randomUUID();
      role.secretIds.add(secretId);
      return dataAnswer({
        secret_id: secretId,
        secret_id_accessor: randomUUID(),
        ...(this.#flavour === 'vault-1.8' ? {} : { secret_id_num_uses: 0 }),
        secret_id_ttl: 600,
      });
    }
    throw new VaultRefusal(405, ['unsupported operation'], true);
  }

  #login(request: VaultRequest, mount: string): VaultAnswer {
    const [name, role] = this.#roleOf(request);
    const token = this.#tokens.create({
      policies: role.policies,
      withDefaultPolicy: role.withDefaultPolicy,
      ttlSeconds: role.ttlSeconds,
      maxTtlSeconds: role.maxTtlSeconds,
      renewable: role.renewable,
      displayName: this.kind,
      path: `${mount}login`,
      meta: { [this.kind === 'approle' ? 'role_name' : 'role']: name },
    });
    return this.#tokens.login(token);
  }

  /** The role that a login proves. Messages of AppRole and of an unknown role are recorded, the others documented. */
  #roleOf({ body, clientCommonName }: VaultRequest): readonly [string, VaultRole] {
    const isOld = this.#flavour === 'vault-1.8';
    if (this.kind === 'approle') {
      const found = [...this.roles].find(([, { roleId }]) => roleId === textOf(body, 'role_id'));
      if (found === undefined)
        throw new VaultRefusal(400, [isOld ? 'invalid role ID' : 'invalid role or secret ID']);
      if (!found[1].secretIds.has(textOf(body, 'secret_id')))
        throw new VaultRefusal(400, [isOld ? 'invalid secret id' : 'invalid role or secret ID']);
      return found;
    }
    if (this.kind === 'cert') {
      if (clientCommonName === undefined)
        throw new VaultRefusal(400, ['client certificate must be supplied']);
      const found = [...this.roles].find(
        ([name, { commonName }]) =>
          commonName === clientCommonName && ['', name].includes(textOf(body, 'name')),
      );
      if (found === undefined)
        throw new VaultRefusal(400, ['invalid certificate or no client certificate supplied']);
      return found;
    }
    const name = textOf(body, 'role');
    const role = this.roles.get(name);
    if (role === undefined) {
      throw new VaultRefusal(400, [
        this.kind === 'kubernetes' ? `invalid role name "${name}"` : `role "${name}" could not be found`,
      ]);
    }
    if (role.jwt !== textOf(body, 'jwt')) {
      throw this.kind === 'kubernetes'
        ? new VaultRefusal(403, ['permission denied'])
        : new VaultRefusal(400, ['error validating token: error verifying token signature']);
    }
    return [name, role];
  }
}
