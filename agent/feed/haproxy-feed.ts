import { join } from 'node:path';
import type { Clock } from '../../host/clock.ts';
import { withDeadline } from '../../host/deadline.ts';
import type { Log } from '../../host/log.ts';
import type { Random } from '../../host/random.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import { type HeldSnapshot, heldSnapshot, type IdentitySnapshot } from '../snapshot.ts';
import type { ConsumerStatus, Feed } from './feed.ts';
import { askHaproxy, type HaproxyAddress } from './haproxy-connection.ts';
import {
  type HaproxyMaterial,
  materialOf,
  type PlaceholderDer,
  placeholderMaterial,
} from './haproxy-material.ts';
import { makePlaceholder } from './haproxy-placeholder.ts';
import { HaproxyTarget } from './haproxy-target.ts';
import type { HaproxyFiles } from './haproxy-update.ts';
import { watchLeftover } from './leftover.ts';
import { type Owner, type SnapshotContent, type SnapshotFile, SnapshotFolder } from './snapshot-folder.ts';

/** The names of the files. HAProxy's configuration names them by the folder's path and these. */
export const HAPROXY_FILE_NAMES = {
  /** Certificate chain, leaf first, then the private key, PEM: for `server ... crt`. */
  certificate: 'svid.pem',
  /** One line that names {@link HAPROXY_FILE_NAMES.certificate} with an SNI filter: for `bind ... crt-list`. */
  crtList: 'crt-list.txt',
  /** Trust anchors, PEM: for `ca-file`. */
  authorities: 'ca.pem',
  /** CRLs, PEM, or one of an issuer that issues nothing: for `crl-file`. */
  crls: 'crl.pem',
} as const;

/** A name that nobody asks for (RFC 6761 section 6.4): the certificate is the first of its crt-list, so it is the default. */
const SNI_FILTER = 'kedge.invalid';
const PUBLIC_MODE = 0o644;
/** How long a publication waits for the slowest HAProxy before it leaves that behind, milliseconds. */
const PATIENCE_MS = 2_000;
const MAX_CONSUMER_NAME = 64;

/** What a {@link HaproxyFeed} is made of. */
export interface HaproxyFeedOptions {
  /** Absolute path of a folder that only this feed writes to, the same for the agent and for HAProxy. */
  readonly folder: string;
  /** Permission bits of the file that holds the key. */
  readonly keyMode: number;
  /** Owner of all files; absent = the process's own. */
  readonly owner?: Owner;
  /** Where each HAProxy takes commands. */
  readonly addresses: readonly HaproxyAddress[];
  /** Whether HAProxy is given CRLs: its configuration must name `crl.pem` then. */
  readonly crls: boolean;
  /** Whether only `server` lines use the certificate: a HAProxy before 3.0 then needs no crt-list. */
  readonly serverLinesOnly: boolean;
  /** Longest that one command may take, milliseconds. */
  readonly timeoutMs: number;
  /** Longest command that HAProxy takes, bytes: its `tune.bufsize`. */
  readonly maxCommandBytes: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Called after each change of what {@link HaproxyFeed.consumers} says. */
  readonly onConsumersChange: () => void;
}

/**
 * The identity in HAProxy by its runtime API: no reload, no connection lost.
 *
 *  1. the files of the folder are replaced, durably and all at once: a HAProxy that starts at any moment loads the
 *     newest there is
 *  2. each HAProxy is brought to the same, beside the others (see `updateHaproxy`), and again after it restarts
 *
 * HAProxy does not start without files, so there always are some: while there is no identity, a placeholder that no
 * peer accepts and that accepts no peer. A withdrawal puts the placeholder in place of the identity.
 */
export class HaproxyFeed implements Feed {
  readonly name = 'haproxy';
  readonly #options: HaproxyFeedOptions;
  readonly #folder: SnapshotFolder;
  readonly #placeholder: HaproxyMaterial;
  readonly #noCrl: Uint8Array;
  readonly #targets: readonly HaproxyTarget[];
  /** Material of the files in place; null = what an earlier process left. */
  #written: HaproxyMaterial | null = null;
  /** Ends the watch over files that an earlier process left. */
  readonly #leftover = new AbortController();
  /** Aborted at the end of the feed. */
  readonly #closing = new AbortController();

  /** Takes the folder over: what an earlier agent left there stays until it expires, since HAProxy may restart from it. */
  static async open(options: HaproxyFeedOptions): Promise<HaproxyFeed> {
    const feed = new HaproxyFeed(options, await makePlaceholder(options.clock.now()));
    await feed.#adoptLeftover();
    return feed;
  }

  private constructor(options: HaproxyFeedOptions, placeholder: PlaceholderDer) {
    const { folder, owner } = options;
    this.#options = options;
    this.#placeholder = placeholderMaterial(placeholder);
    this.#noCrl = placeholder.crl;
    const names = Object.values(HAPROXY_FILE_NAMES);
    this.#folder = new SnapshotFolder({ path: folder, names, ...(owner === undefined ? {} : { owner }) });
    this.#targets = options.addresses.map((address) => this.#target(address));
  }

  async publish(snapshot: IdentitySnapshot, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const material =
      this.#written?.snapshot?.generation === snapshot.generation
        ? this.#written
        : materialOf(snapshot, this.#noCrl);
    await this.#write(material);
    this.#options.onConsumersChange();
    const results = await this.#bringAll(material, signal);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  /**
   * Rejects only for the files: a HAProxy that does not take the placeholder now is logged, and it is tried until it
   * does. It must not hold up the next identity of the others.
   */
  async withdraw(signal: AbortSignal): Promise<void> {
    await this.#write(this.#placeholder);
    this.#options.onConsumersChange();
    await this.#bringAll(this.#placeholder, signal);
    signal.throwIfAborted();
  }

  consumers(): readonly ConsumerStatus[] {
    const delivered = heldOf(this.#written);
    return this.#targets.map((target) => ({
      name: target.name,
      best: 'loaded',
      delivered,
      loaded: heldOf(target.loaded),
      errorCode: target.errorCode,
    }));
  }

  async close(): Promise<void> {
    this.#leftover.abort();
    this.#closing.abort(new KedgeError('cancelled', 'the agent is closing'));
    await Promise.all(this.#targets.map((target) => target.close()));
  }

  #target(address: HaproxyAddress): HaproxyTarget {
    const { timeoutMs, maxCommandBytes, clock, random, log, onConsumersChange } = this.#options;
    return new HaproxyTarget({
      name: consumerName(address),
      ask: (command, signal) => askHaproxy(command, { address, timeoutMs, clock }, signal),
      files: this.#files(),
      placeholder: this.#placeholder,
      maxCommandBytes,
      clock,
      random,
      log,
      onChange: onConsumersChange,
    });
  }

  #files(): HaproxyFiles {
    const { folder, crls, serverLinesOnly } = this.#options;
    const { certificate, authorities, crls: crlFile, crtList } = HAPROXY_FILE_NAMES;
    return {
      certificate: { kind: 'cert', path: join(folder, certificate) },
      authorities: { kind: 'ca-file', path: join(folder, authorities) },
      ...(crls ? { crls: { kind: 'crl-file', path: join(folder, crlFile) } as const } : {}),
      crtList: serverLinesOnly ? null : join(folder, crtList),
    };
  }

  async #write(material: HaproxyMaterial): Promise<void> {
    if (this.#written === material) return;
    this.#leftover.abort();
    await this.#folder.replace(this.#contentOf(material), this.#options.clock.now());
    this.#written = material;
    // At once: a HAProxy that opens the files one by one meets a version whole or the next, and is put right then.
    await this.#folder.removeOld();
  }

  #contentOf({ snapshot, certificate, authorities, crls }: HaproxyMaterial): SnapshotContent {
    const { folder, keyMode } = this.#options;
    const file = (name: string, text: string, mode = PUBLIC_MODE): SnapshotFile => ({
      name,
      bytes: Buffer.from(text),
      mode,
    });
    const crtList = `${join(folder, HAPROXY_FILE_NAMES.certificate)} ${SNI_FILTER}\n`;
    const files = [
      file(HAPROXY_FILE_NAMES.certificate, certificate.blocks.join(''), keyMode),
      file(HAPROXY_FILE_NAMES.crtList, crtList),
      file(HAPROXY_FILE_NAMES.authorities, authorities.blocks.join('')),
      file(HAPROXY_FILE_NAMES.crls, crls.blocks.join('')),
    ];
    return { files, notAfterMs: snapshot?.svid.notAfterMs ?? null };
  }

  /** All targets side by side; one that is slower than the others is left to itself after {@link PATIENCE_MS}. */
  #bringAll(material: HaproxyMaterial, signal: AbortSignal): Promise<PromiseSettledResult<void>[]> {
    const { clock } = this.#options;
    const bring = async (target: HaproxyTarget): Promise<void> => {
      const deadline = { clock, timeoutMs: PATIENCE_MS, what: target.name };
      try {
        await withDeadline(deadline, signal, (end) => target.bring(material, end));
      } catch (error) {
        if (!isKedgeError(error, 'deadline_exceeded')) throw error;
        throw new KedgeError('haproxy_unreachable', `${target.name} has not taken the identity yet`, {
          cause: error,
        });
      }
    };
    return Promise.allSettled(this.#targets.map(bring));
  }

  async #adoptLeftover(): Promise<void> {
    const notAfterMs = await this.#folder.contentNotAfterMs();
    // No content, or the placeholder of an earlier agent: the running HAProxy may have anything.
    if (notAfterMs === undefined || notAfterMs === null) return await this.#startFromPlaceholder();
    const remove = async (signal: AbortSignal): Promise<void> => {
      await this.#folder.replace(this.#contentOf(this.#placeholder), this.#options.clock.now(), signal);
      // What was published meanwhile takes the place of this.
      if (signal.aborted) return;
      this.#written = this.#placeholder;
      this.#options.onConsumersChange();
      this.#bringPlaceholder();
    };
    await watchLeftover({ ...this.#options, feed: this.name, notAfterMs, remove }, this.#leftover.signal);
  }

  async #startFromPlaceholder(): Promise<void> {
    await this.#write(this.#placeholder);
    this.#bringPlaceholder();
  }

  /** Nobody waits for it: each HAProxy is tried until it has it, or something newer. */
  #bringPlaceholder(): void {
    for (const target of this.#targets) {
      target.bring(this.#placeholder, this.#closing.signal).catch(() => {});
    }
  }
}

function heldOf(material: HaproxyMaterial | null): HeldSnapshot | null {
  return material === null || material.snapshot === null ? null : heldSnapshot(material.snapshot);
}

/** The address, its end where it is long. */
function consumerName(address: HaproxyAddress): string {
  const text = 'path' in address ? address.path : `${address.host}:${address.port}`;
  return text.length <= MAX_CONSUMER_NAME ? text : `...${text.slice(3 - MAX_CONSUMER_NAME)}`;
}
