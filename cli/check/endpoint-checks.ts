import { CA_PATH } from '../../ca/api/serving-identity.ts';
import { describeCertificate } from '../../pki/inspect.ts';
import { isKedgeError, quote } from '../../pki/kedge-error.ts';
import { SpiffeId } from '../../pki/spiffe-id.ts';
import { verifyX509Svid } from '../../pki/x509-svid-verify.ts';
import { INSTALL_PORTS } from '../install/install-names.ts';
import { type PodIdentity, readPodIdentity } from '../pod-identity.ts';
import { spanText } from '../text-table.ts';
import type { Check, CheckAnswer, CheckContext } from './check.ts';
import { clockVerdict } from './clock-verdict.ts';
import { textOf } from './field.ts';
import { caPods, named } from './plane-checks.ts';
import { newestAnchors } from './trust-checks.ts';

const CATEGORY = 'identity-plane';

/** With less than this share of its time left a certificate should have been replaced: the CA does it at half, or two thirds. */
const OVERDUE_SHARE = 0.2;

/** Whether the replicas show agents what agents will take. Each is asked through the API server's proxy to its pod. */
export const ENDPOINT_CHECKS: readonly Check[] = [
  {
    category: CATEGORY,
    statement: 'shows agents certificates that the trust bundle verifies',
    ask: chainAnswer,
  },
  {
    category: CATEGORY,
    statement: 'replaces its issuer and its own certificates in time',
    ask: horizonAnswer,
  },
  {
    category: CATEGORY,
    statement: "has replicas whose clocks agree with this machine's",
    ask: clockAnswer,
  },
];

/** One replica, and what it said. */
interface Replica {
  readonly name: string;
  readonly identity: PodIdentity;
  /** This machine's clock before and after it was asked, milliseconds since the Unix epoch. */
  readonly asked: readonly [beforeMs: number, afterMs: number];
}

/** All that run; or why they cannot be asked from here. */
async function replicas(context: CheckContext): Promise<readonly Replica[] | CheckAnswer> {
  const { api, namespace, clock, signal } = context;
  const running = (await caPods(context)).filter((pod) => textOf(pod, 'status', 'phase') === 'Running');
  if (running.length === 0) return { verdict: 'skipped', detail: 'no replica runs' };
  const answers: Replica[] = [];
  for (const { metadata } of running) {
    const { name } = metadata;
    const path = `/api/v1/namespaces/${namespace}/pods/${name}:${INSTALL_PORTS.http}/proxy/identity` as const;
    const beforeMs = clock.now();
    try {
      const identity = readPodIdentity(await api.getPath(path, { signal }));
      answers.push({ name, identity, asked: [beforeMs, clock.now()] });
    } catch (error) {
      if (!isKedgeError(error) || error.code === 'agent_answer_invalid') throw error;
      const why =
        error.code === 'kubernetes_forbidden'
          ? `needs the right to get pods/proxy in namespace ${namespace}`
          : `the API server does not reach ${name} at port ${INSTALL_PORTS.http} (${error.code})`;
      return { verdict: 'skipped', detail: why };
    }
  }
  return answers;
}

function isAnswer(found: readonly Replica[] | CheckAnswer): found is CheckAnswer {
  return 'verdict' in found;
}

async function chainAnswer(context: CheckContext): Promise<CheckAnswer> {
  const anchors = await newestAnchors(context);
  if (anchors === null) return { verdict: 'skipped', detail: 'there is no trust bundle yet' };
  const asked = await replicas(context);
  if (isAnswer(asked)) return asked;
  const bad = asked.flatMap(({ name, identity }) => {
    const problem = chainProblem(identity, anchors, context.clock.now());
    return problem === null ? [] : [`${name} (${problem})`];
  });
  if (bad.length === 0) return { verdict: 'ok', detail: `${asked.length} replicas` };
  return {
    verdict: 'failed',
    detail: `agents will not connect to ${named(bad)}`,
    hint: 'compare the clocks, and the trust bundle in the namespace with kedge status; the log of the replica says more',
  };
}

/** Why an agent with these anchors would not take what a replica shows; null = it would. */
function chainProblem(
  { trustDomain, chain }: PodIdentity,
  anchors: readonly Uint8Array[],
  nowMs: number,
): string | null {
  if (chain === null) return 'it has no certificate yet';
  try {
    const { spiffeId } = verifyX509Svid({ chain, bundles: () => anchors, nowMs });
    const want = SpiffeId.of(trustDomain, CA_PATH);
    return spiffeId.equals(want) ? null : `it is ${quote(spiffeId.toString())}`;
  } catch (error) {
    if (!isKedgeError(error)) throw error;
    return error.code;
  }
}

async function horizonAnswer(context: CheckContext): Promise<CheckAnswer> {
  const asked = await replicas(context);
  if (isAnswer(asked)) return asked;
  const nowMs = context.clock.now();
  const lives = asked.flatMap(({ name, identity }) => {
    const [own, issuer] = identity.chain ?? [];
    return [
      ...(own === undefined ? [] : [lifeOf(`the certificate of ${name}`, own, nowMs)]),
      ...(issuer === undefined ? [] : [lifeOf(`the issuer of ${name}`, issuer, nowMs)]),
    ];
  });
  const overdue = lives.filter(({ share }) => share < OVERDUE_SHARE);
  if (overdue.length > 0) {
    return {
      verdict: overdue.some(({ leftMs }) => leftMs <= 0) ? 'failed' : 'warning',
      detail: named(
        overdue.map(({ what, leftMs }) =>
          leftMs <= 0 ? `${what} has expired` : `${what} has ${spanText(leftMs)} left`,
        ),
      ),
      hint: 'its replacement is overdue: kedge status, and the log of the CA, say what keeps it',
    };
  }
  if (lives.length === 0) return { verdict: 'skipped', detail: 'no replica has a certificate yet' };
  return { verdict: 'ok', detail: `the first ends in ${spanText(Math.min(...lives.map((l) => l.leftMs)))}` };
}

function lifeOf(
  what: string,
  der: Uint8Array,
  nowMs: number,
): { readonly what: string; readonly leftMs: number; readonly share: number } {
  const { notBefore, notAfter } = describeCertificate(der);
  const leftMs = Date.parse(notAfter) - nowMs;
  return { what, leftMs, share: leftMs / (Date.parse(notAfter) - Date.parse(notBefore)) };
}

async function clockAnswer(context: CheckContext): Promise<CheckAnswer> {
  const asked = await replicas(context);
  if (isAnswer(asked)) return asked;
  let worst = { name: '', skewMs: 0 };
  let told = 0;
  for (const { name, identity, asked: span } of asked) {
    const { timeMs } = identity;
    if (timeMs === null) continue;
    told += 1;
    const skewMs = Math.max(0, span[0] - timeMs, timeMs - span[1]);
    if (skewMs >= worst.skewMs) worst = { name, skewMs };
  }
  if (told === 0) return { verdict: 'skipped', detail: 'no replica tells its time' };
  return clockVerdict(worst.skewMs, `the clock of ${worst.name} differs`);
}
