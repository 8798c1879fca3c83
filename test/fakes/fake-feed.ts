import type { ConsumerStatus, Feed } from '../../agent/feed/feed.ts';
import type { IdentitySnapshot } from '../../agent/snapshot.ts';

/** A feed that records what it is told, and answers as a test wants. */
export class FakeFeed implements Feed {
  readonly name: string;
  /** `publish 1`, `withdraw`, ... in order. */
  readonly log: string[] = [];
  readonly snapshots: IdentitySnapshot[] = [];
  /** What {@link FakeFeed.consumers} says. */
  consumerList: readonly ConsumerStatus[] = [];
  /** Answers the next calls; throw to fail, await to be slow. */
  onPublish: (snapshot: IdentitySnapshot, signal: AbortSignal) => Promise<void> | void = () => {};
  onWithdraw: (signal: AbortSignal) => Promise<void> | void = () => {};

  constructor(name = 'fake') {
    this.name = name;
  }

  async publish(snapshot: IdentitySnapshot, signal: AbortSignal): Promise<void> {
    this.log.push(`publish ${snapshot.generation}`);
    await this.onPublish(snapshot, signal);
    this.snapshots.push(snapshot);
  }

  async withdraw(signal: AbortSignal): Promise<void> {
    this.log.push('withdraw');
    await this.onWithdraw(signal);
  }

  consumers(): readonly ConsumerStatus[] {
    return this.consumerList;
  }

  close(): Promise<void> {
    this.log.push('close');
    return Promise.resolve();
  }
}

/** A promise that rejects when the signal is aborted, and does nothing else: a feed that hangs. */
export function hang(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
