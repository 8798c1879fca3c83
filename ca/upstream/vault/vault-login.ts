import { readSmallFile } from '../../../host/small-file.ts';
import { isKedgeError, KedgeError, quote } from '../../../pki/kedge-error.ts';
import { LIMITS } from '../../../pki/limits.ts';
import { answerInvalid, isMembers, type JsonMembers, secondsMember, textMember } from './vault-answer.ts';
import type { VaultClient } from './vault-client.ts';
import type { VaultLogin } from './vault-settings.ts';

/** A token as Vault gave it, or says that it is. */
export interface VaultLease {
  readonly token: string;
  /** How long it is good from now, seconds; 0 = for ever. */
  readonly seconds: number;
  readonly renewable: boolean;
}

/**
 * Logs in by reading the files of `login` anew. Throws `file_unreadable`, `message_too_large`,
 * `vault_login_refused`, and what {@link VaultClient} throws for what is no refusal.
 */
export async function logIn(
  login: VaultLogin,
  client: VaultClient,
  signal: AbortSignal,
): Promise<VaultLease> {
  if (login.kind === 'token') return givenToken(login.tokenFile, client, signal);
  const path = `auth/${login.mount}/login`;
  try {
    const body = await credentials(login);
    const answer = await client.call({ operation: 'write', path, body, mountKind: 'auth method' }, signal);
    return leaseOf(answer, path);
  } catch (error) {
    if (!isKedgeError(error, 'vault_refused', 'vault_forbidden', 'vault_mount_missing')) throw error;
    throw new KedgeError('vault_login_refused', error.message, { hint: hintOf(login), cause: error });
  }
}

/** Has Vault lengthen a token's life. Throws what {@link VaultClient} does. */
export async function renew(token: string, client: VaultClient, signal: AbortSignal): Promise<VaultLease> {
  const path = 'auth/token/renew-self';
  return leaseOf(await client.call({ operation: 'write', path, token }, signal), path);
}

/** Whether Vault still takes a token; a policy that forbids to ask counts as no. Throws for what is no refusal. */
export async function isGood(token: string, client: VaultClient, signal: AbortSignal): Promise<boolean> {
  try {
    await client.call({ operation: 'read', path: 'auth/token/lookup-self', token }, signal);
    return true;
  } catch (error) {
    if (isKedgeError(error, 'vault_forbidden')) return false;
    throw error;
  }
}

/** A token file: the token is as somebody else got it, so what it is worth is asked. */
async function givenToken(path: string, client: VaultClient, signal: AbortSignal): Promise<VaultLease> {
  const token = await readText(path, 'the Vault token');
  const lookup = 'auth/token/lookup-self';
  try {
    const body = await client.call({ operation: 'read', path: lookup, token }, signal);
    const data = isMembers(body['data']) ? body['data'] : {};
    return { token, seconds: secondsMember(data, 'ttl'), renewable: data['renewable'] === true };
  } catch (error) {
    if (!isKedgeError(error, 'vault_forbidden')) throw error;
    throw new KedgeError('vault_login_refused', `Vault does not take the token in ${quote(path, 200)}`, {
      hint: 'it has expired, was revoked, or may not read auth/token/lookup-self: write a new one into the file',
      cause: error,
    });
  }
}

async function credentials(login: Exclude<VaultLogin, { kind: 'token' }>): Promise<object> {
  switch (login.kind) {
    case 'appRole': {
      const roleId = await readText(login.roleIdFile, 'the AppRole role id');
      const { secretIdFile } = login;
      if (secretIdFile === null) return { role_id: roleId };
      return { role_id: roleId, secret_id: await readText(secretIdFile, 'the AppRole secret id') };
    }
    case 'kubernetes':
    case 'jwt':
      return { role: login.role, jwt: await readText(login.tokenFile, 'the token to log in to Vault with') };
    case 'certificate':
      return login.role === null ? {} : { name: login.role };
    default:
      login satisfies never;
      throw new TypeError('unreachable');
  }
}

function hintOf(login: Exclude<VaultLogin, { kind: 'token' }>): string {
  const where = `or no auth method is at auth/${login.mount}: vault auth list`;
  switch (login.kind) {
    case 'appRole':
      return `role id or secret id are wrong, used up or expired: write new ones into the files, ${where}`;
    case 'kubernetes':
      return `the role must be bound to the CA's ServiceAccount and namespace: vault read auth/${login.mount}/role/${login.role}, ${where}`;
    case 'jwt':
      return `the role must take this JWT's claims: vault read auth/${login.mount}/role/${login.role}, ${where}`;
    case 'certificate':
      return `a role must take the client certificate: vault list auth/${login.mount}/certs, ${where}`;
    default:
      login satisfies never;
      throw new TypeError('unreachable');
  }
}

function leaseOf(answer: JsonMembers, path: string): VaultLease {
  const what = `the answer to ${quote(path, 200)}`;
  const { auth } = answer;
  if (!isMembers(auth)) throw answerInvalid(what, 'has no auth');
  const token = textMember(auth, 'client_token', what);
  if (!isToken(token)) throw answerInvalid(what, 'has no client_token');
  return { token, seconds: secondsMember(auth, 'lease_duration'), renewable: auth['renewable'] === true };
}

async function readText(path: string, what: string): Promise<string> {
  const bytes = await readSmallFile(path, LIMITS.vaultCredentialBytes, what);
  const text = Buffer.from(bytes).toString('latin1').trim();
  if (isToken(text)) return text;
  throw new KedgeError('file_unreadable', `${what} ${quote(path, 200)} is empty, or not one line of text`, {
    hint: 'write it into the file by itself',
  });
}

/** Visible ASCII: what may stand in a header. */
function isToken(text: string): boolean {
  return text.length <= LIMITS.vaultCredentialBytes && /^[\x21-\x7e]+$/.test(text);
}
