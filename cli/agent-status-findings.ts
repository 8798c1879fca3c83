import { heldByConsumer } from '../agent/evidence.ts';
import type { CanaryStatus, GetAgentStatusResponse } from '../proto/gen/kedge/v1/agent.ts';
import { type ConsumerReport, Evidence, type FeedReport, type Held } from '../proto/gen/kedge/v1/identity.ts';
import { printable } from './text-table.ts';

/** Something that is wrong with an agent, and what to do. */
export interface Finding {
  /** Sentences without a full stop. */
  readonly what: string;
  readonly todo: string;
  /** Somebody has not got the newest because of it, or nobody has anything. */
  readonly isBehind: boolean;
}

/** What is wrong, the gravest first; empty = every consumer has the newest. `unknown` of a canary is no finding. */
export function findingsOf(status: GetAgentStatusResponse): readonly Finding[] {
  return [
    ...phaseFindings(status),
    ...status.feeds.flatMap((feed) => feedFindings(feed, status)),
    ...canaryFindings(status),
  ];
}

/** Why a consumer has not got the newest snapshot at the best grade that it can give; undefined = it has, or there is none. */
export function consumerReason(consumer: ConsumerReport, status: GetAgentStatusResponse): string | undefined {
  if (status.svid === undefined) return undefined;
  if (consumer.errorCode !== '') return `refuses it: ${printable(consumer.errorCode)}`;
  const held = heldOf(consumer);
  if (held === undefined) {
    return consumer.best === Evidence.EVIDENCE_LOADED ? 'has acknowledged nothing' : 'was handed nothing';
  }
  if (held.bundleSequence < status.bundleSequence) {
    return `has bundle ${held.bundleSequence} of ${status.bundleSequence}`;
  }
  const isNewest = Buffer.from(held.svidSerialNumber).equals(status.svid.serialNumber);
  return isNewest ? undefined : 'has another SVID';
}

/** What {@link heldByConsumer} says of a consumer on the wire. */
export function heldOf({ best, delivered, loaded }: ConsumerReport): Held | undefined {
  return heldByConsumer({
    best: best === Evidence.EVIDENCE_LOADED ? 'loaded' : 'delivered',
    delivered,
    loaded,
  });
}

function phaseFindings({ phase, lastFailure }: GetAgentStatusResponse): Finding[] {
  const failed =
    lastFailure === undefined ? '' : `: ${printable(lastFailure.code)}, ${printable(lastFailure.message)}`;
  const isBehind = true;
  switch (phase) {
    case 'serving':
      return lastFailure === undefined
        ? []
        : [
            {
              what: `the newest attempt to renew the SVID failed${failed}`,
              todo: 'what is served stays valid until it expires; get the CA back before that',
              isBehind: false,
            },
          ];
    case 'starting':
      return [
        {
          what: `the agent has no SVID yet${failed}`,
          todo: 'is the CA reachable, and does it take the token; the agent goes on trying',
          isBehind,
        },
      ];
    case 'denied':
      return [
        {
          what: `the CA gives this workload no identity${failed}`,
          todo: 'check its token and the policy of the CA',
          isBehind,
        },
      ];
    case 'expired':
      return [
        {
          what: `the SVID has expired and is withdrawn${failed}`,
          todo: 'get the CA back; the agent goes on trying',
          isBehind,
        },
      ];
    default:
      return [
        { what: `the agent is in the unknown phase ${printable(phase)}`, todo: 'update kedge', isBehind },
      ];
  }
}

function feedFindings(feed: FeedReport, status: GetAgentStatusResponse): Finding[] {
  const name = printable(feed.name);
  const behind = feed.consumers.filter((consumer) => consumerReason(consumer, status) !== undefined);
  const [worst] = behind;
  if (worst !== undefined) {
    const others = behind.length === 1 ? '' : `, and ${behind.length - 1} more of its consumers`;
    return [
      {
        what: `${name}: ${printable(worst.name)} ${consumerReason(worst, status)}${others}`,
        todo: 'look at the log of that proxy; the agent brings it the newest again by itself',
        isBehind: true,
      },
    ];
  }
  const isBehind = status.svid !== undefined && feed.bundleSequence < status.bundleSequence;
  if (feed.errorCode === '' && !isBehind) return [];
  return [
    {
      what:
        feed.errorCode === ''
          ? `${name} is not at the newest yet`
          : `${name} fails: ${printable(feed.errorCode)}`,
      todo: 'look at feed.publication_failed in the log of the agent; it tries again by itself',
      isBehind: true,
    },
  ];
}

function canaryFindings({ canary }: GetAgentStatusResponse): Finding[] {
  if (canary === undefined) return [];
  const todo = CANARY_TODO[canary.verdict];
  if (todo === undefined) return [];
  return [{ what: `canary: ${canaryText(canary)}`, todo, isBehind: true }];
}

/** What the canary saw, in a sentence. */
export function canaryText({ verdict, errorCode, authorities, answer, detail }: CanaryStatus): string {
  switch (verdict) {
    case 'proven':
      return authorities === 'current'
        ? 'the proxy uses the newest SVID and bundle'
        : 'the proxy uses the newest SVID; its bundle is not shown';
    case 'refused':
      return `the proxy refuses its own SVID from a client (${printable(detail)})`;
    case 'outdated':
      return authorities === 'missing'
        ? 'the proxy lacks a trust anchor of the newest bundle'
        : 'the proxy presents an older SVID';
    case 'untrusted':
      return `what the proxy presents does not verify: ${printable(errorCode)}`;
    default:
      return `it cannot tell: ${printable(answer)} (${printable(detail)})`;
  }
}

const CANARY_TODO: Readonly<Record<string, string>> = {
  refused:
    'the proxy may still have an older bundle, or a rule that keeps its own identity out: reload it, check its rules',
  outdated: 'the proxy was not reloaded: check its hook or feed, then reload it by hand',
  untrusted:
    'is canaryAddress the port of this proxy, and does it read the files or the socket of this agent',
};
