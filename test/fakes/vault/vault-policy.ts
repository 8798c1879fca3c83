/** A policy: HCL as far as Vault's documentation of policies needs it, `path "p" { capabilities = [...] }`. */
export class VaultPolicy {
  readonly #rules: readonly { readonly path: string; readonly capabilities: readonly string[] }[];

  constructor(hcl: string) {
    const text = hcl.replaceAll(/^\s*#.*$/gm, '');
    const rule = /path\s+"([^"]+)"\s*\{\s*capabilities\s*=\s*\[([^\]]*)\]\s*\}/g;
    this.#rules = [...text.matchAll(rule)].map(([, path = '', list = '']) => ({
      path,
      capabilities: [...list.matchAll(/"([a-z]+)"/g)].map(([, name = '']) => name),
    }));
    if (text.replaceAll(rule, '').trim() !== '') throw new TypeError(`not understood: ${hcl}`);
  }

  /** Whether the most specific rule for `path` grants `capability`. */
  allows(path: string, capability: string): boolean {
    const matching = this.#rules.filter(({ path: pattern }) => matches(pattern, path));
    const [best] = matching.toSorted((a, b) => specificity(b.path) - specificity(a.path));
    return best?.capabilities.includes(capability) === true;
  }
}

/** What every token may do, as Vault's `default` policy says, as far as the fake has the paths. */
export const DEFAULT_POLICY = `
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
`;

/** The capability that a method needs. */
export function capabilityOf(method: string): string {
  return ({ GET: 'read', LIST: 'list', DELETE: 'delete' } as Record<string, string>)[method] ?? 'update';
}

/** `+` is one segment, a `*` at the end is anything. */
function matches(pattern: string, path: string): boolean {
  const prefix = pattern.endsWith('*');
  const escaped = (prefix ? pattern.slice(0, -1) : pattern)
    .split('/')
    .map((segment) => (segment === '+' ? '[^/]+' : segment.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')))
    .join('/');
  return new RegExp(`^${escaped}${prefix ? '.*' : ''}$`).test(path);
}

function specificity(pattern: string): number {
  return pattern.replace(/[+*].*$/, '').length * 2 + Number(!/[+*]/.test(pattern));
}
