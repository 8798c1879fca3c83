import { formatDuration, parseDurationMs } from '../../host/duration.ts';
import { KEDGE_VERSION } from '../../host/version.ts';
import { isKedgeError, KedgeError, quote } from '../../pki/kedge-error.ts';
import { TrustDomain } from '../../pki/spiffe-id.ts';
import { cidrs, dnsLabel, oneOf, ports, quantity, sharedNamespace, whole } from './value-forms.ts';

/** One value of the installation: what `--set <key>=<value>` takes, and what help and docs say of it. */
export interface InstallValueSpec {
  readonly key: string;
  /** What the value is, as help shows it. */
  readonly value: string;
  readonly default: string;
  /** The default under `--ha`, where that is another. */
  readonly ha?: string;
  /** One line, lower case, no full stop. */
  readonly means: string;
  /** Throws a KedgeError, or answers what is wrong; null = nothing. */
  readonly check: (text: string) => string | null;
}

/** Every value, in the order of the docs. `docs/kubernetes.md` is held to this table by a test. */
export const INSTALL_VALUES = [
  {
    key: 'namespace',
    value: 'name',
    default: 'kedge',
    means: 'namespace of the identity plane itself, which nothing else lives in',
    check: (text) => dnsLabel(text) ?? sharedNamespace(text),
  },
  {
    key: 'trustDomain',
    value: 'trust domain',
    default: 'cluster.local',
    means: 'trust domain whose identities are issued; fixed once the CA has run',
    check: (text) => {
      TrustDomain.parse(text);
      return null;
    },
  },
  {
    key: 'cluster',
    value: 'name',
    default: 'kubernetes',
    means: 'name of this cluster on the audit log and in the SPIFFE ID template',
    check: dnsLabel,
  },
  {
    key: 'image',
    value: 'image',
    default: `kedge:${KEDGE_VERSION}`,
    means: 'image of CA and agent, as built from deploy/Dockerfile',
    check: (text) => (/^[a-z0-9][A-Za-z0-9._:/@-]{0,511}$/.test(text) ? null : 'is not an image reference'),
  },
  {
    key: 'imagePullPolicy',
    value: 'policy',
    default: 'IfNotPresent',
    means: 'Always, IfNotPresent or Never',
    check: oneOf('Always', 'IfNotPresent', 'Never'),
  },
  {
    key: 'replicas',
    value: 'number',
    default: '1',
    ha: '3',
    means: 'replicas of the CA',
    check: whole(1, 100),
  },
  {
    key: 'svidTtl',
    value: 'duration',
    default: '24h',
    means: 'lifetime of an X.509-SVID',
    check: (text) => {
      const ms = parseDurationMs(text);
      return ms >= 60_000 && ms % 1_000 === 0
        ? null
        : `is not whole seconds of ${formatDuration(60_000)} or more`;
    },
  },
  {
    key: 'audience',
    value: 'text',
    default: 'kedge',
    means: 'audience of the ServiceAccount tokens that agents show to the CA',
    check: (text) => (/^[!-~]{1,253}$/.test(text) ? null : 'is not 1 to 253 printable ASCII characters'),
  },
  {
    key: 'logLevel',
    value: 'level',
    default: 'info',
    means: 'debug, info, warn or error',
    check: oneOf('debug', 'info', 'warn', 'error'),
  },
  {
    key: 'bindAddress',
    value: 'IP address',
    default: '0.0.0.0',
    means: 'address that the CA listens on in its pod; [::] where pods have IPv6',
    check: oneOf('0.0.0.0', '[::]'),
  },
  {
    key: 'cpuRequest',
    value: 'quantity',
    default: '100m',
    ha: '500m',
    means: 'CPU that each replica requests; there is no CPU limit, which would slow issuing when it matters',
    check: quantity,
  },
  {
    key: 'memoryRequest',
    value: 'quantity',
    default: '192Mi',
    ha: '512Mi',
    means: 'memory that each replica requests',
    check: quantity,
  },
  {
    key: 'memoryLimit',
    value: 'quantity',
    default: '1Gi',
    ha: '2Gi',
    means: 'memory limit of each replica',
    check: quantity,
  },
  {
    key: 'failurePolicy',
    value: 'policy',
    default: 'Ignore',
    ha: 'Fail',
    means:
      'what becomes of a new pod in a meshed namespace while the webhook cannot be reached: Ignore starts it without an agent, Fail refuses it',
    check: oneOf('Ignore', 'Fail'),
  },
  {
    key: 'networkPolicies',
    value: 'true or false',
    default: 'true',
    means: 'whether to make NetworkPolicies for the identity plane',
    check: oneOf('true', 'false'),
  },
  {
    key: 'apiServerPorts',
    value: 'ports',
    default: '443,6443',
    means: 'ports of the API server behind its Service, which the NetworkPolicy lets the CA reach',
    check: ports,
  },
  {
    key: 'webhookFrom',
    value: 'CIDRs',
    default: 'anywhere',
    means:
      'from where the NetworkPolicy lets in calls of the webhook: addresses of the API servers, or anywhere',
    check: (text) => (text === 'anywhere' ? null : cidrs(text)),
  },
  {
    key: 'nodeCidrs',
    value: 'CIDRs',
    default: 'none',
    means:
      'addresses of nodes, let in beside pods: agents of pods on the network of their node come from there',
    check: (text) => (text === 'none' ? null : cidrs(text)),
  },
] as const satisfies readonly InstallValueSpec[];

/** The key of a value. */
export type InstallKey = (typeof INSTALL_VALUES)[number]['key'];

/** All values of one installation, each as its checked text. */
export type InstallValues = Readonly<Record<InstallKey, string>>;

/**
 * The values of an installation: `--set` over the defaults of `--ha` over the defaults.
 *
 * `sets` are the texts after each `--set`, `key=value`. Throws `usage_invalid` for an unknown key (with those that there
 * are), a key given twice, or a value that the key does not take.
 */
export function installValues({
  ha,
  sets,
}: {
  readonly ha: boolean;
  readonly sets: readonly string[];
}): InstallValues {
  const given = new Map<string, string>();
  for (const set of sets) {
    const { spec, value } = readSet(set);
    if (given.has(spec.key)) {
      throw new KedgeError('usage_invalid', `--set ${spec.key} is given twice`, { hint: 'give it once' });
    }
    given.set(spec.key, value);
  }
  const values = INSTALL_VALUES.map((spec: InstallValueSpec) => [
    spec.key,
    given.get(spec.key) ?? (ha ? (spec.ha ?? spec.default) : spec.default),
  ]);
  return Object.freeze(Object.fromEntries(values) as Record<InstallKey, string>);
}

function readSet(set: string): { readonly spec: InstallValueSpec; readonly value: string } {
  const at = set.indexOf('=');
  const key = at < 0 ? set : set.slice(0, at);
  const spec = INSTALL_VALUES.find((known) => known.key === key);
  if (spec === undefined) {
    throw new KedgeError('usage_invalid', `--set does not know the key ${quote(key)}`, {
      hint: `the keys are ${INSTALL_VALUES.map((known) => known.key).join(', ')}`,
    });
  }
  const value = at < 0 ? '' : set.slice(at + 1);
  const problem = value === '' ? 'is empty' : problemOf(spec, value);
  if (problem === null) return { spec, value };
  throw new KedgeError('usage_invalid', `--set ${key}: ${quote(value)} ${problem}`, {
    hint: `write --set ${key}=<${spec.value}>: ${spec.means}`,
  });
}

function problemOf(spec: InstallValueSpec, value: string): string | null {
  try {
    return spec.check(value);
  } catch (error) {
    if (!isKedgeError(error)) throw error;
    return `is refused: ${error.message}`;
  }
}
