import type { SvidKeyType } from '../../pki/algorithms.ts';
import type { DnsNameTemplate, PolicySubject } from './dns-name-template.ts';
import type { NamePattern } from './name-pattern.ts';

/** What the policy lets an identity have. */
export interface Grant {
  readonly ttlMs: number;
  readonly keyTypes: ReadonlySet<SvidKeyType>;
  /** DNS SANs, in order, without duplicates. */
  readonly dnsNames: readonly string[];
}

/** What an identity may ask for beside what it is granted. */
export interface Latitude {
  /** The shortest lifetime, milliseconds; at most the one that is granted. */
  readonly minTtlMs: number;
  /** DNS SANs that it gets when it asks for them. */
  readonly allowedDnsNames: readonly string[];
}

/** The policy's answer about one identity. */
export type PolicyDecision =
  /** Without latitude what it asks for changes nothing, and a DNS name is refused. */
  | { readonly kind: 'granted'; readonly grant: Grant; readonly latitude?: Latitude }
  | { readonly kind: 'denied'; readonly reason: string };

/** What a rule says of those that it matches; the same shape serves as the defaults. */
export interface GrantTerms {
  readonly ttlMs: number;
  readonly keyTypes: ReadonlySet<SvidKeyType>;
  readonly minTtlMs: number;
  readonly dnsNames: readonly DnsNameTemplate[];
  readonly allowedDnsNames: readonly DnsNameTemplate[];
}

/** Whom a rule or a denial is about. Both must match. */
export interface SubjectPattern {
  readonly namespace: NamePattern;
  readonly serviceAccount: NamePattern;
}

/** A policy as its document has it, checked and with every default filled in. */
export interface PolicyTerms {
  readonly defaults: GrantTerms;
  /** The first that matches wins; none: the defaults. */
  readonly rules: readonly (SubjectPattern & { readonly terms: GrantTerms })[];
  /** Looked at before the rules. */
  readonly deny: readonly (SubjectPattern & { readonly reason: string })[];
}

/** How many decisions one policy remembers. */
const MEMO_ENTRIES = 16_384;

/**
 * Decides who gets what. Immutable in what it answers; a changed policy file makes a new one.
 *
 * Decisions are remembered, the oldest forgotten first, because a cluster asks about the same ServiceAccounts all
 * day and a policy may have thousands of rules.
 */
export class Policy {
  readonly #terms: PolicyTerms;
  readonly #memo = new Map<string, PolicyDecision>();

  constructor(terms: PolicyTerms) {
    this.#terms = terms;
  }

  /** Throws `dns_name_template_mismatch` when a DNS name that the policy grants is not one for this subject. */
  decide(subject: PolicySubject): PolicyDecision {
    // Neither name can hold a slash: attestation checked them.
    const key = `${subject.namespace}/${subject.serviceAccount}`;
    const known = this.#memo.get(key);
    if (known !== undefined) return known;
    const decision = this.#evaluate(subject);
    if (this.#memo.size >= MEMO_ENTRIES) {
      const [oldest] = this.#memo.keys();
      if (oldest !== undefined) this.#memo.delete(oldest);
    }
    this.#memo.set(key, decision);
    return decision;
  }

  #evaluate(subject: PolicySubject): PolicyDecision {
    const matches = (pattern: SubjectPattern): boolean =>
      pattern.namespace(subject.namespace) && pattern.serviceAccount(subject.serviceAccount);
    const denial = this.#terms.deny.find(matches);
    if (denial !== undefined) return { kind: 'denied', reason: denial.reason };
    const terms = this.#terms.rules.find(matches)?.terms ?? this.#terms.defaults;
    const { ttlMs, keyTypes } = terms;
    const minTtlMs = Math.min(terms.minTtlMs, ttlMs);
    const namesOf = (templates: readonly DnsNameTemplate[]): readonly string[] => [
      ...new Set(templates.map((template) => template(subject))),
    ];
    const [dnsNames, allowedDnsNames] = [namesOf(terms.dnsNames), namesOf(terms.allowedDnsNames)];
    const latitude = { minTtlMs, allowedDnsNames };
    return { kind: 'granted', grant: { ttlMs, keyTypes, dnsNames }, latitude };
  }
}
