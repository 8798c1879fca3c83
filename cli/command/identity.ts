import { INJECTED_LABEL } from '../../ca/kubernetes/cluster-names.ts';
import { POD } from '../../ca/kubernetes/objects.ts';
import { AGENT_CONTAINER } from '../../ca/inject/injection-settings.ts';
import { describeCertificate } from '../../pki/inspect.ts';
import { isKedgeError, KedgeError, quote } from '../../pki/kedge-error.ts';
import { verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import { listOf, numberOf, textOf } from '../check/field.ts';
import { type Command, type Invocation, OUTPUT_OPTION } from '../command.ts';
import { jsonDocument } from '../json-document.ts';
import { KUBERNETES_OPTIONS, openCluster } from '../kubernetes-options.ts';
import { type PodIdentity, readPodIdentity } from '../pod-identity.ts';
import { distanceText, printable, textFields, timeText } from '../text-table.ts';

/** The name of the port at which an injected agent serves HTTP. */
const PORT_NAME = 'kedge-http';

/** `kedge identity`. */
export const identityCommand: Command = {
  name: 'identity',
  summary: 'show the X.509-SVID and the trust bundle that the agent of a pod serves now',
  description: [
    "Asks the agent of a pod, through the API server's proxy to the pod, which X.509-SVID it serves and which trust anchors it trusts, and verifies the one by the other. It needs the right to get pods and pods/proxy in the pod's namespace.",
  ],
  positionals: [{ name: 'pod', required: true, help: 'the name of the pod' }],
  options: [
    {
      name: 'namespace',
      short: 'n',
      value: 'name',
      default: 'the namespace of the context',
      help: 'namespace of the pod',
    },
    ...KUBERNETES_OPTIONS,
    OUTPUT_OPTION,
  ],
  examples: [
    ['kedge identity web-7d4b9 -n shop', 'what a pod holds'],
    ['kedge identity web-7d4b9 -n shop --output json | jq .bundle.sequence', 'one field of it'],
  ],
  no: 'it serves no SVID, or one that its own bundle does not verify; the pod has no agent, or cannot be asked',
  async run(invocation) {
    const { output, terminal, clock } = invocation;
    const identity = await identityOf(invocation);
    const problem = problemOf(identity, clock.now());
    terminal.stdout(
      output === 'json'
        ? jsonDocument(jsonIdentity(identity, problem))
        : `${textIdentity(identity, problem, clock.now()).join('\n')}\n`,
    );
    return problem === null ? 0 : 1;
  },
};

async function identityOf(invocation: Invocation): Promise<PodIdentity> {
  const { args } = invocation;
  const api = await openCluster(invocation);
  const { signal } = new AbortController();
  try {
    const name = args.positional(0);
    const namespace = args.value('namespace') ?? api.namespace;
    const pod = await api.get(POD, { namespace, name }, { signal });
    const path = `/api/v1/namespaces/${namespace}/pods/${name}:${portOf(pod)}/proxy/identity` as const;
    return readPodIdentity(await api.getPath(path, { signal }));
  } finally {
    api.close();
  }
}

/** The port at which the pod's agent serves HTTP. Throws `agent_unreachable`. */
function portOf(pod: Awaited<ReturnType<Awaited<ReturnType<typeof openCluster>>['get']>>): number {
  const { name, labels } = pod.metadata;
  if (labels?.[INJECTED_LABEL] !== 'true') {
    throw new KedgeError('agent_unreachable', `pod ${quote(name)} has no agent`, {
      hint: 'its namespace or itself must have been labelled kedge.io/inject=enabled when it was created',
    });
  }
  const containers = [...listOf(pod, 'spec', 'initContainers'), ...listOf(pod, 'spec', 'containers')];
  const agent = containers.find((container) => textOf(container, 'name') === AGENT_CONTAINER);
  const port = listOf(agent, 'ports').find((one) => textOf(one, 'name') === PORT_NAME);
  const number = numberOf(port, 'containerPort');
  if (number > 0) return number;
  throw new KedgeError('agent_unreachable', `the agent of pod ${quote(name)} serves no HTTP`, {
    hint: 'it was switched off by the annotation kedge.io/http-port: disabled',
  });
}

/** Why a peer would not take what the pod shows; null = it would. */
function problemOf({ trustDomain, phase, chain, bundle }: PodIdentity, nowMs: number): string | null {
  if (chain === null) return `the agent is ${phase}: it serves no X.509-SVID`;
  try {
    verifyX509Svid({
      chain,
      bundles: (asked) => (asked.equals(trustDomain) ? bundle?.x509Authorities : undefined),
      nowMs,
    });
    return null;
  } catch (error) {
    if (!isKedgeError(error)) throw error;
    return `${error.message} (${error.code})`;
  }
}

function jsonIdentity(identity: PodIdentity, problem: string | null): object {
  const { trustDomain, phase, chain, bundle } = identity;
  return {
    trustDomain: trustDomain.name,
    phase,
    valid: problem === null,
    problem,
    chain: chain?.map(describeCertificate) ?? null,
    bundle:
      bundle === null
        ? null
        : { sequence: bundle.sequence, anchors: bundle.x509Authorities.map(describeCertificate) },
  };
}

function textIdentity(
  { trustDomain, phase, chain, bundle }: PodIdentity,
  problem: string | null,
  nowMs: number,
): readonly string[] {
  const [leaf, issuer] = chain?.map(describeCertificate) ?? [];
  const anchors = bundle?.x509Authorities.map(describeCertificate) ?? [];
  const until = (iso: string): string =>
    `${timeText(Date.parse(iso))} (${distanceText(Date.parse(iso), nowMs)})`;
  return textFields([
    ['trust domain', trustDomain.name],
    ['agent', phase],
    ...(leaf === undefined
      ? []
      : ([
          ['SPIFFE ID', leaf.spiffeId ?? 'none'],
          ['serial', leaf.serialNumber],
          ['valid until', until(leaf.notAfter)],
          ['issuer', issuer?.subjectKeyId ?? leaf.authorityKeyId ?? 'unknown'],
        ] as const)),
    ['bundle sequence', bundle === null ? 'none' : bundle.sequence.toString()],
    ...anchors.map(
      (anchor) =>
        ['trust anchor', `${anchor.subjectKeyId ?? 'no id'}, until ${until(anchor.notAfter)}`] as const,
    ),
    ['verdict', problem === null ? 'a peer with this bundle accepts it' : `NOT VALID: ${printable(problem)}`],
  ]);
}
