import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { INJECT_KEY } from '../kubernetes/cluster-names.ts';
import {
  ADDRESS,
  DNS_NAMES,
  DURATION,
  IMAGE,
  LOCAL_ADDRESSES,
  matching,
  oneOf,
  QUANTITY,
  URL_PATH,
  type ValueForm,
  whole,
} from './annotation-values.ts';
import {
  AGENT_LOG_LEVELS,
  IMAGE_PULL_POLICIES,
  SIDECAR_MODES,
  STATUS_ANNOTATION,
} from './injection-settings.ts';
import { isMap, type Json } from './json.ts';

/** One annotation of a pod that injection reads. */
export interface AnnotationSpec {
  /** Without the prefix `kedge.io/`. */
  readonly name: string;
  readonly form: ValueForm;
  /** What holds without it, as the documentation says it. */
  readonly default: string;
  /** One line, lower case, no full stop. */
  readonly means: string;
}

/** Files presets of the agent; a test holds them equal to the agent's own. */
export const FILES_PRESETS = [
  'plain',
  'nginx',
  'haproxy',
  'envoy',
  'stunnel',
  'postgresql',
  'ghostunnel',
] as const;

const SWITCH = oneOf('enabled', 'disabled');

/** Every annotation, in the order of the documentation. `docs/kubernetes.md` is held to this table by a test. */
export const ANNOTATIONS = [
  {
    name: 'inject',
    form: SWITCH,
    default: "the pod's label of that name, then the namespace's",
    means: 'whether the pod gets an agent; disabled wins wherever it stands',
  },
  {
    name: 'sidecar',
    form: oneOf(...SIDECAR_MODES),
    default: '`injection.sidecar`',
    means:
      'native: an init container that stays, started before the others; container: one beside the others',
  },
  { name: 'image', form: IMAGE, default: '`injection.image`', means: 'the image of the agent' },
  {
    name: 'image-pull-policy',
    form: oneOf(...IMAGE_PULL_POLICIES),
    default: '`injection.imagePullPolicy`',
    means: 'when that image is pulled',
  },
  {
    name: 'ca-address',
    form: ADDRESS,
    default: '`injection.caAddress`',
    means: 'gRPC address of the CA',
  },
  {
    name: 'svid-ttl',
    form: DURATION,
    default: 'what the policy grants',
    means: 'lifetime of SVIDs to ask the CA for; its policy cuts it to `minTtl` and `ttl`',
  },
  {
    name: 'dns-names',
    form: DNS_NAMES,
    default: 'what the policy gives',
    means:
      'DNS names to ask for beside those; one that `allowedDnsNames` of the policy has not refuses the SVID',
  },
  {
    name: 'log-level',
    form: oneOf(...AGENT_LOG_LEVELS),
    default: '`injection.logLevel`',
    means: 'log lines of the agent below this level are not written',
  },
  {
    name: 'cpu-request',
    form: QUANTITY,
    default: '`injection.cpuRequest`',
    means: 'CPU that the agent requests',
  },
  {
    name: 'cpu-limit',
    form: QUANTITY,
    default: 'none',
    means: 'CPU that the agent may use; a limit slows renewal when it matters',
  },
  {
    name: 'memory-request',
    form: QUANTITY,
    default: '`injection.memoryRequest`',
    means: 'memory that the agent requests',
  },
  {
    name: 'memory-limit',
    form: QUANTITY,
    default: '`injection.memoryLimit`',
    means: 'memory that the agent may use',
  },
  {
    name: 'run-as-user',
    form: whole(1, 4_294_967_294),
    default: '`injection.userId`',
    means: 'user and group of the agent, for a server that reads only files that are its own',
  },
  {
    name: 'http-port',
    form: whole(1, 65_535, 'disabled'),
    default: '`injection.httpPort`',
    means: 'port of /metrics, /livez and /readyz of the agent',
  },
  {
    name: 'workload-api',
    form: SWITCH,
    default: 'enabled',
    means:
      'the socket of the SPIFFE Workload API and of Envoy SDS, and SPIFFE_ENDPOINT_SOCKET in each container',
  },
  {
    name: 'istio-sds',
    form: SWITCH,
    default: 'disabled',
    means: "a second socket where Istio's proxy looks for one, /var/run/secrets/workload-spiffe-uds/socket",
  },
  {
    name: 'files-preset',
    form: oneOf(...FILES_PRESETS),
    default: 'no files',
    means: 'writes the files of that server into /var/run/kedge/files of each container',
  },
  {
    name: 'files-key-mode',
    // As the agent takes it: it would end at its start, and its pod with it.
    form: matching('three octal digits, the last one 0, as in 0640', /^0?[0-7]{2}0$/),
    default: '0600, or 0640 and the group fsGroup where the pod has one',
    means: 'permission bits of the files that hold the key',
  },
  {
    name: 'haproxy-sockets',
    form: LOCAL_ADDRESSES,
    default: 'no HAProxy',
    means:
      'stats sockets of HAProxy; its files are in /var/run/kedge/haproxy, where it may make the socket too',
  },
  {
    name: 'canary-port',
    form: whole(1, 65_535),
    default: 'no canary',
    means: 'port of the proxy on 127.0.0.1 that the agent dials, to prove that it uses the newest SVID',
  },
  {
    name: 'canary-protocol',
    form: oneOf('http', 'tls'),
    default: 'http',
    means: 'what the canary speaks: a HEAD request, or the handshake alone',
  },
  { name: 'canary-path', form: URL_PATH, default: '/', means: 'path of that request' },
] as const satisfies readonly AnnotationSpec[];

/** The name of an annotation that injection reads. */
export type AnnotationName = (typeof ANNOTATIONS)[number]['name'];

/** What a pod's annotations say. */
export type AnnotationValues = ReadonlyMap<AnnotationName, string>;

const PREFIX = 'kedge.io/';
const SPECS: readonly (AnnotationSpec & { readonly name: AnnotationName })[] = ANNOTATIONS;

/**
 * Reads the annotations under `kedge.io/`. Throws `injection_annotation_invalid` for a name that is unknown, which is
 * mostly a mistyped one, and for a value that its annotation does not take.
 */
export function readAnnotations(annotations: Json | undefined): AnnotationValues {
  const values = new Map<AnnotationName, string>();
  for (const [key, value] of Object.entries(isMap(annotations) ? annotations : {})) {
    if (!key.startsWith(PREFIX) || key === STATUS_ANNOTATION) continue;
    const spec = SPECS.find(({ name }) => `${PREFIX}${name}` === key);
    if (spec === undefined) {
      throw new KedgeError('injection_annotation_invalid', `there is no annotation ${quote(key)}`, {
        hint: `there are ${SPECS.map(({ name }) => name).join(', ')}, each behind ${PREFIX}`,
      });
    }
    const read = typeof value === 'string' ? spec.form.read(value) : null;
    if (read === null) throw notAllowed(key, value, spec.form.allowed);
    values.set(spec.name, read);
  }
  return values;
}

/** Whether a pod, its annotations or a namespace says `enabled` or `disabled`; undefined where it says neither. */
export function injectValueOf(members: Json | undefined, whose: string): 'enabled' | 'disabled' | undefined {
  const value = isMap(members) && Object.hasOwn(members, INJECT_KEY) ? members[INJECT_KEY] : undefined;
  if (value === undefined || value === 'enabled' || value === 'disabled') return value;
  throw notAllowed(`${INJECT_KEY} of ${whose}`, value, SWITCH.allowed);
}

function notAllowed(what: string, value: Json | undefined, allowed: string): KedgeError {
  const shown = typeof value === 'string' ? quote(value) : 'a value that is no text';
  return new KedgeError('injection_annotation_invalid', `${what} does not take ${shown}`, {
    hint: `allowed: ${allowed}`,
  });
}
