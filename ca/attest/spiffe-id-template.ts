import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { SpiffeId, type TrustDomain } from '../../pki/spiffe-id.ts';
import type { WorkloadInstance } from './attestor.ts';

/** The path that Kubernetes meshes use: `spiffe://<trust domain>/ns/<namespace>/sa/<ServiceAccount>`. */
export const DEFAULT_SPIFFE_ID_TEMPLATE = 'ns/{namespace}/sa/{serviceAccount}';

/** The first path segment that is Kedge's own: `spiffe://<trust domain>/kedge/ca` is the CA itself. */
export const RESERVED_SEGMENT = 'kedge';

/** What may stand between braces, and what it becomes. */
const PLACEHOLDERS: ReadonlyMap<string, (instance: WorkloadInstance) => string> = new Map([
  ['namespace', (instance: WorkloadInstance) => instance.namespace],
  ['serviceAccount', (instance: WorkloadInstance) => instance.serviceAccount],
  ['podName', (instance: WorkloadInstance) => instance.podName],
  ['podUid', (instance: WorkloadInstance) => instance.podUid],
  ['cluster', (instance: WorkloadInstance) => instance.cluster],
]);

/** Without these two, different ServiceAccounts would share one SPIFFE ID. */
const IDENTITY_PLACEHOLDERS = ['namespace', 'serviceAccount'] as const;

const HINT = `allowed placeholders: ${[...PLACEHOLDERS.keys()].map((name) => `{${name}}`).join(', ')}`;
const MAX_TEMPLATE_CHARS = 1024;

/** How a template is read. */
export interface SpiffeIdTemplateOptions {
  /**
   * True when the operator says in so many words that several ServiceAccounts may share one SPIFFE ID: then the
   * template need not hold `{namespace}` and `{serviceAccount}`. Default false.
   */
  readonly allowSharedIds?: boolean;
}

interface Segment {
  readonly before: string;
  readonly value: ((instance: WorkloadInstance) => string) | null;
  readonly after: string;
}

/**
 * Attested instance → SPIFFE ID path.
 *
 * A template is path segments joined by `/`; a segment holds at most one placeholder, so that a path can be read
 * in one way only: `{namespace}-{serviceAccount}` would give (`a-b`, `c`) and (`a`, `b-c`) the same ID. Two
 * ServiceAccounts therefore never share an ID, unless the operator allows it. No template yields an ID below
 * `/kedge/`, which is the CA's own.
 */
export class SpiffeIdTemplate {
  readonly #text: string;
  readonly #segments: readonly Segment[];

  private constructor(text: string, segments: readonly Segment[]) {
    this.#text = text;
    this.#segments = segments;
  }

  /** Reads a template, with or without the leading slash. Throws `config_invalid`. */
  static parse(text: string, options: SpiffeIdTemplateOptions = {}): SpiffeIdTemplate {
    if (text.length > MAX_TEMPLATE_CHARS) {
      throw invalid(text, `it has over ${MAX_TEMPLATE_CHARS} characters`);
    }
    const used = new Set<string>();
    const path = text.startsWith('/') ? text.slice(1) : text;
    const segments = path.split('/').map((segment) => parseSegment(text, segment, used));
    if (segments[0]?.value === null && segments[0].before === RESERVED_SEGMENT) {
      throw invalid(text, `the path /${RESERVED_SEGMENT}/ is the CA's own`);
    }
    const missing = IDENTITY_PLACEHOLDERS.filter((name) => !used.has(name));
    if (missing.length > 0 && options.allowSharedIds !== true) {
      throw invalid(
        text,
        `without ${missing.map((name) => `{${name}}`).join(' and ')} several ServiceAccounts share one SPIFFE ID`,
      );
    }
    return new SpiffeIdTemplate(text, segments);
  }

  /** The instance's SPIFFE ID. Throws `spiffe_id_template_mismatch` when it is not a valid one, or reserved. */
  apply(instance: WorkloadInstance, trustDomain: TrustDomain): SpiffeId {
    let path = '';
    for (const { before, value, after } of this.#segments) {
      path += `/${before}`;
      if (value === null) continue;
      const name = value(instance);
      // Attestation checked the names; yet a slash would make two segments of one, and two workloads of it.
      if (name === '' || name.includes('/')) throw mismatch(name, 'is not one path segment');
      path += `${name}${after}`;
    }
    if (path.startsWith(`/${RESERVED_SEGMENT}/`) || path === `/${RESERVED_SEGMENT}`) {
      throw mismatch(path, `is below /${RESERVED_SEGMENT}/, which is the CA's own`);
    }
    try {
      return SpiffeId.of(trustDomain, path);
    } catch (cause) {
      throw mismatch(path, 'is not a SPIFFE ID path', cause);
    }
  }

  /**
   * Whether an instance of `cluster` and one of `otherCluster` under another template can have the same SPIFFE ID: when
   * no segment tells them apart. Says yes where it is in doubt.
   */
  mayOverlap(cluster: string, other: SpiffeIdTemplate, otherCluster: string): boolean {
    const [a, b] = [this.#patterns(cluster), other.#patterns(otherCluster)];
    return a.length === b.length && a.every((pattern, i) => overlap(pattern, b[i]));
  }

  #patterns(cluster: string): readonly Pattern[] {
    return this.#segments.map(({ before, value, after }) => {
      if (value === null) return { before, isOpen: false, after: '' };
      if (value === PLACEHOLDERS.get('cluster'))
        return { before: before + cluster + after, isOpen: false, after: '' };
      return { before, isOpen: true, after };
    });
  }

  toString(): string {
    return this.#text;
  }
}

/** What a segment can be: `before`, then anything where it is open, then `after`. */
interface Pattern {
  readonly before: string;
  readonly isOpen: boolean;
  readonly after: string;
}

function overlap(a: Pattern, b: Pattern | undefined): boolean {
  if (b === undefined) return false;
  if (!a.isOpen && !b.isOpen) return a.before === b.before;
  if (a.isOpen && b.isOpen) {
    const isPrefix = a.before.startsWith(b.before) || b.before.startsWith(a.before);
    return isPrefix && (a.after.endsWith(b.after) || b.after.endsWith(a.after));
  }
  const [fixed, open] = a.isOpen ? [b.before, a] : [a.before, b];
  const { before, after } = open;
  return fixed.length > before.length + after.length && fixed.startsWith(before) && fixed.endsWith(after);
}

function parseSegment(text: string, segment: string, used: Set<string>): Segment {
  const match = /^([A-Za-z0-9._-]*)(?:\{([^{}]*)\}([A-Za-z0-9._-]*))?$/.exec(segment);
  if (match === null) {
    if (/\}.*\{/.test(segment)) throw invalid(text, `the segment ${quote(segment)} has two placeholders`);
    throw invalid(
      text,
      `the segment ${quote(segment)} is not letters, digits, ".", "_", "-" and a placeholder`,
    );
  }
  const [, before = '', name, after = ''] = match;
  if (name === undefined) {
    if (before === '' || before === '.' || before === '..') {
      throw invalid(text, before === '' ? 'it has an empty segment' : `it has a segment ${quote(before)}`);
    }
    return { before, value: null, after };
  }
  const value = PLACEHOLDERS.get(name);
  if (value === undefined) throw invalid(text, `there is no placeholder {${name.slice(0, 40)}}`);
  used.add(name);
  return { before, value, after };
}

function invalid(text: string, problem: string): KedgeError {
  return new KedgeError('config_invalid', `the SPIFFE ID template ${quote(text)} is not usable: ${problem}`, {
    hint: `${HINT}; the default is ${DEFAULT_SPIFFE_ID_TEMPLATE}`,
  });
}

function mismatch(path: string, problem: string, cause?: unknown): KedgeError {
  return new KedgeError('spiffe_id_template_mismatch', `${quote(path, 300)} ${problem}`, {
    hint: 'change the SPIFFE ID template of the CA, or the names of the workload',
    cause,
  });
}
