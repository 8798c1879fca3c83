import * as z from 'zod';

import { DURATION_FORMAT, formatDuration, parseDurationMs } from '../../host/duration.ts';
import type { SvidKeyType } from '../../pki/algorithms.ts';
import { isKedgeError, quote } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import { closedObject } from '../yaml-document.ts';
import { compileDnsNameTemplate, DNS_NAME_PLACEHOLDERS, type DnsNameTemplate } from './dns-name-template.ts';
import { compileNamePattern } from './name-pattern.ts';
import { fallbackTerms, type PolicyBounds, SVID_KEY_TYPES } from './policy-defaults.ts';
import type { GrantTerms, PolicyTerms, SubjectPattern } from './policy.ts';

/** Reads the plain data of a policy document into its terms; zod issues name what is wrong. */
export function policySchema(bounds: PolicyBounds): z.ZodType<PolicyTerms> {
  const grantShape = {
    ttl: ttlSchema(bounds).optional(),
    keyTypes: z.array(z.enum(SVID_KEY_TYPES)).min(1).max(SVID_KEY_TYPES.length).optional(),
    minTtl: ttlSchema(bounds).optional(),
    dnsNames: z.array(dnsNameSchema).max(LIMITS.policyDnsNames).optional(),
    allowedDnsNames: z.array(dnsNameSchema).max(LIMITS.policyDnsNames).optional(),
  };
  const patternShape = { namespace: patternSchema.optional(), serviceAccount: patternSchema.optional() };
  return closedObject({
    defaults: closedObject(grantShape).optional(),
    rules: z
      .array(closedObject({ match: closedObject(patternShape), ...grantShape }))
      .max(LIMITS.policyRules)
      .optional(),
    deny: z
      .array(
        closedObject({ ...patternShape, reason: z.string().min(1).max(500) }).refine(
          (entry) => entry.namespace !== undefined || entry.serviceAccount !== undefined,
          {
            error:
              'names neither namespace nor serviceAccount, so it would deny everyone; write "*" to mean that',
          },
        ),
      )
      .max(LIMITS.policyRules)
      .optional(),
  }).transform(({ defaults = {}, rules = [], deny = [] }): PolicyTerms => {
    const base = termsOf(defaults, fallbackTerms(bounds));
    return {
      defaults: base,
      rules: rules.map((rule) => ({ ...patternOf(rule.match), terms: termsOf(rule, base) })),
      deny: deny.map((entry) => ({ ...patternOf(entry), reason: entry.reason })),
    };
  });
}

interface GrantInput {
  readonly ttl?: number | undefined;
  readonly keyTypes?: readonly SvidKeyType[] | undefined;
  readonly minTtl?: number | undefined;
  readonly dnsNames?: readonly DnsNameTemplate[] | undefined;
  readonly allowedDnsNames?: readonly DnsNameTemplate[] | undefined;
}

function termsOf(input: GrantInput, base: GrantTerms): GrantTerms {
  return {
    ttlMs: input.ttl ?? base.ttlMs,
    keyTypes: input.keyTypes === undefined ? base.keyTypes : new Set(input.keyTypes),
    minTtlMs: input.minTtl ?? base.minTtlMs,
    dnsNames: input.dnsNames ?? base.dnsNames,
    allowedDnsNames: input.allowedDnsNames ?? base.allowedDnsNames,
  };
}

function patternOf(input: {
  readonly namespace?: SubjectPattern['namespace'] | undefined;
  readonly serviceAccount?: SubjectPattern['serviceAccount'] | undefined;
}): SubjectPattern {
  return {
    namespace: input.namespace ?? (() => true),
    serviceAccount: input.serviceAccount ?? (() => true),
  };
}

const patternSchema = z.string().transform((text, context) => {
  const pattern = compileNamePattern(text);
  if (pattern !== null) return pattern;
  context.addIssue({
    code: 'custom',
    message: `${quote(text)} can match no name: write lower-case letters, digits, "-", "." and "*" for any characters`,
  });
  return z.NEVER;
});

const dnsNameSchema = z.string().transform((text, context) => {
  const template = compileDnsNameTemplate(text);
  if (template !== null) return template;
  const allowed = DNS_NAME_PLACEHOLDERS.map((name) => `{${name}}`).join(', ');
  context.addIssue({
    code: 'custom',
    message: `${quote(text)} is not a DNS name template: write labels of lower-case letters, digits and "-"; allowed placeholders: ${allowed}`,
  });
  return z.NEVER;
});

function ttlSchema({ maxTtlMs, backdateMs }: PolicyBounds): z.ZodType<number> {
  return z.string({ error: DURATION_FORMAT }).transform((text, context) => {
    const refuse = (message: string): never => {
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    };
    let ttlMs: number;
    try {
      ttlMs = parseDurationMs(text);
    } catch (error) {
      if (!isKedgeError(error, 'config_invalid')) throw error;
      return refuse(`${error.message}; ${error.hint ?? ''}`);
    }
    // X.509 counts in whole seconds.
    if (ttlMs < 1000 || ttlMs % 1000 !== 0)
      return refuse(`the TTL ${quote(text)} is not a whole number of seconds`);
    if (ttlMs > maxTtlMs) {
      return refuse(
        `the TTL ${quote(text)} is over what this CA issues at most, ${formatDuration(maxTtlMs)}`,
      );
    }
    if (ttlMs < backdateMs) {
      return refuse(`the TTL ${quote(text)} is below the backdate, ${formatDuration(backdateMs)}`);
    }
    return ttlMs;
  });
}
