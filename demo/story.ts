import type { HeldIdentity, Traffic, WorkloadMessage } from './message.ts';

const SHORT = 12;
/** When everything fails, it is told so often. */
const FAILURE_PAUSE_MS = 5_000;

/** What happened so far, in numbers. */
export interface StoryTotals extends Traffic {
  /** New X.509-SVIDs after the first one, of all workloads. */
  readonly svidRotations: number;
  /** Of those, how many came from another issuer than the one before. */
  readonly issuerRotations: number;
  /** The fewest rotations that any workload has seen. */
  readonly fewestRotations: number;
}

/**
 * Turns what the workloads tell into plain lines, one for each rotation and for each failure. Pure: no clock, no
 * output of its own.
 */
export class Story {
  readonly #held = new Map<string, { identity: HeldIdentity; rotations: number; issuers: number }>();
  readonly #workloads: readonly string[];
  #traffic: Traffic = { requests: 0, newConnections: 0, failures: 0 };
  #reported = 0;
  readonly #silence = new Map<string, { readonly untilMs: number; untold: number }>();

  /** The names of the workloads that will tell. */
  constructor(workloads: readonly string[]) {
    this.#workloads = workloads;
  }

  /** The line that a message of a workload is worth; undefined where it is worth none. */
  line(workload: string, message: WorkloadMessage, nowMs: number): string | undefined {
    switch (message.kind) {
      case 'traffic':
        this.#traffic = message.traffic;
        return undefined;
      case 'failure':
        return this.#failure(workload, message.reason, nowMs);
      case 'identity':
        return this.#identity(workload, message.identity, nowMs);
      case 'listening':
        return undefined;
      default:
        return message satisfies never;
    }
  }

  get totals(): StoryTotals {
    const held = this.#workloads.map((workload) => this.#held.get(workload));
    const rotations = held.map((entry) => entry?.rotations ?? 0);
    return {
      ...this.#traffic,
      // The server refuses too, and the client may not have counted yet what it told.
      failures: Math.max(this.#traffic.failures, this.#reported),
      svidRotations: rotations.reduce((sum, count) => sum + count, 0),
      issuerRotations: held.reduce((sum, entry) => sum + (entry?.issuers ?? 0), 0),
      fewestRotations: Math.min(...rotations),
    };
  }

  #failure(workload: string, reason: string, nowMs: number): string | undefined {
    this.#reported += 1;
    const silence = this.#silence.get(workload);
    if (silence !== undefined && nowMs < silence.untilMs) {
      silence.untold += 1;
      return undefined;
    }
    this.#silence.set(workload, { untilMs: nowMs + FAILURE_PAUSE_MS, untold: 0 });
    const before = silence === undefined || silence.untold === 0 ? '' : `, after ${silence.untold} more`;
    return stamped(nowMs, workload, `FAILURE${before}: ${reason}`);
  }

  #identity(workload: string, identity: HeldIdentity, nowMs: number): string {
    const before = this.#held.get(workload);
    const until = `valid until ${clockText(identity.notAfterMs)}`;
    if (before === undefined) {
      this.#held.set(workload, { identity, rotations: 0, issuers: 0 });
      return stamped(
        nowMs,
        workload,
        `first X.509-SVID ${short(identity.serialNumber)} from issuer ${short(identity.issuerId)}, ${until}`,
      );
    }
    const newIssuer = before.identity.issuerId !== identity.issuerId;
    this.#held.set(workload, {
      identity,
      rotations: before.rotations + 1,
      issuers: before.issuers + (newIssuer ? 1 : 0),
    });
    const svid = `X.509-SVID ${short(before.identity.serialNumber)} -> ${short(identity.serialNumber)}`;
    const issuer = newIssuer
      ? `ISSUER ${short(before.identity.issuerId)} -> ${short(identity.issuerId)}`
      : `issuer ${short(identity.issuerId)}`;
    const { requests, failures } = this.totals;
    return stamped(
      nowMs,
      workload,
      `${svid}, ${issuer}, ${until}; ${requests} requests, ${failures} failures`,
    );
  }
}

/** How it went, in one line. */
export function summary(totals: StoryTotals): string {
  const { requests, newConnections, svidRotations, issuerRotations, failures } = totals;
  return [
    `${requests} requests, ${newConnections} of them on new connections`,
    `${svidRotations} SVID rotations, ${issuerRotations} of them to a new issuer`,
    `${failures} failures`,
  ].join('; ');
}

function stamped(nowMs: number, workload: string, text: string): string {
  return `${clockText(nowMs)}  ${workload.padEnd(4)}  ${text}`;
}

/** The time of day, UTC. */
function clockText(ms: number): string {
  return new Date(ms).toISOString().slice(11, 19);
}

function short(hex: string): string {
  return hex.slice(0, SHORT);
}
