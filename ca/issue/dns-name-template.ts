import { isDnsName } from '../../pki/dns-name.ts';
import { KedgeError, quote } from '../../pki/kedge-error.ts';

/** Whom a policy decides about. */
export interface PolicySubject {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** What may stand between braces in a DNS name template. */
export const DNS_NAME_PLACEHOLDERS = ['namespace', 'serviceAccount'] as const;

/** Subject → DNS name, lower case, no wildcard. Throws `dns_name_template_mismatch`. */
export type DnsNameTemplate = (subject: PolicySubject) => string;

/**
 * Compiles a template such as `{serviceAccount}.{namespace}.svc`. Returns null when it cannot yield a DNS name
 *, or has a placeholder that is not in {@link DNS_NAME_PLACEHOLDERS}.
 */
export function compileDnsNameTemplate(text: string): DnsNameTemplate | null {
  const expand = ({ namespace, serviceAccount }: PolicySubject): string =>
    text.replaceAll('{namespace}', () => namespace).replaceAll('{serviceAccount}', () => serviceAccount);
  if (!isDnsName(expand({ namespace: 'n', serviceAccount: 's' }))) return null;
  return (subject) => {
    const name = expand(subject);
    if (isDnsName(name)) return name;
    throw new KedgeError('dns_name_template_mismatch', `the policy gives the DNS name ${quote(name)}`, {
      hint: 'a DNS name has at most 253 characters and 63 in a label: change dnsNames in the policy file',
    });
  };
}
