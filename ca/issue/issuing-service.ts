import type { Clock } from '../../host/clock.ts';
import type { Random } from '../../host/random.ts';
import { isKedgeError, KedgeError } from '../../pki/kedge-error.ts';
import { LIMITS } from '../../pki/limits.ts';
import type { SpiffeId, TrustDomain } from '../../pki/spiffe-id.ts';
import type { SpiffeIdTemplate } from '../attest/spiffe-id-template.ts';
import type { AuditLog } from './audit-log.ts';
import { FairQueue } from './fair-queue.ts';
import type { IssuanceMetrics } from './issuance-metrics.ts';
import { type IssuedSvid, PreparedSvid, SignedSvid } from './issuance.ts';
import type { Grant, Policy } from './policy.ts';
import type { Refusal, RefusalLog } from './refusal.ts';
import type { SigningIssuerProvider } from './signing-issuer.ts';
import { type Job, SliceSigner, type Staged, type SvidRequest } from './slice-signer.ts';

/** What an {@link IssuingService} is made of. */
export interface IssuingServiceOptions {
  readonly trustDomain: TrustDomain;
  readonly template: Pick<SpiffeIdTemplate, 'apply'>;
  /** The policy in force; asked for each request. */
  readonly policy: () => Policy;
  readonly signingIssuer: SigningIssuerProvider;
  readonly audit: AuditLog;
  /** Where refusals go. */
  readonly refusals: Pick<RefusalLog, 'record'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: IssuanceMetrics;
  /** How far SVIDs are backdated, milliseconds. */
  readonly backdateMs: number;
  /** Requests that may wait, over all instances. Default {@link QUEUE_CAPACITY}. */
  readonly queueCapacity?: number;
  /** Requests of one workload instance that may wait. Default {@link INSTANCE_QUEUE_CAPACITY}. */
  readonly instanceQueueCapacity?: number;
}

/** What the CA asks of itself. */
export interface OwnSvidRequest {
  readonly spiffeId: SpiffeId;
  readonly csr: Uint8Array;
  readonly grant: Grant;
}

export const QUEUE_CAPACITY = 4_096;
export const INSTANCE_QUEUE_CAPACITY = 8;

/** SVIDs that are signed and wait for the audit log at most: a disk that hangs fills the queue, not the memory. */
const MAX_UNCOMMITTED = 2_048;

/**
 * Turns requests into SVIDs: a fair queue, signing in slices, one commit of the audit log for each slice.
 *
 * Requests that arrive in one turn of the event loop are signed together (see {@link SliceSigner}) and share one sync
 * of the disk; while that is under way the next slice is signed.
 *
 * Every refusal is counted, and told on the audit log without waiting for the disk; but not those of callers who
 * left: nobody was refused anything.
 */
export class IssuingService {
  readonly #options: IssuingServiceOptions;
  readonly #queue: FairQueue<Job>;
  readonly #slicer: SliceSigner;
  #scheduled = false;
  #uncommitted = 0;

  #draining: { readonly promise: Promise<void>; readonly resolve: () => void } | null = null;

  constructor(options: IssuingServiceOptions) {
    this.#options = options;
    this.#queue = new FairQueue({
      capacity: options.queueCapacity ?? QUEUE_CAPACITY,
      instanceCapacity: options.instanceQueueCapacity ?? INSTANCE_QUEUE_CAPACITY,
      clock: options.clock,
      hasLeft: (job) => job.request.signal.aborted,
    });
    this.#slicer = new SliceSigner(options);
    options.metrics.observeQueue(() => this.#queue.size);
    options.metrics.observeAudit(() => options.audit.available);
  }

  /** Requests that wait for their turn. */
  get queued(): number {
    return this.#queue.size;
  }

  /**
   * An SVID for an attested instance. Rejects with the refusal, already counted and recorded, or, when the caller
   * left, with the signal's reason.
   */
  submit(request: SvidRequest): Promise<IssuedSvid> {
    const { promise, resolve, reject } = Promise.withResolvers<IssuedSvid>();
    const { signal } = request;
    const leave = (): void => reject(departure(signal));
    if (signal.aborted) {
      leave();
      return promise;
    }
    signal.addEventListener('abort', leave, { once: true });
    const settled = (): void => signal.removeEventListener('abort', leave);
    this.#admit(request, {
      resolve: (svid) => {
        settled();
        resolve(svid);
      },
      reject: (error) => {
        settled();
        reject(error);
      },
    });
    return promise;
  }

  /** The CA's own SVID, in the same order of steps, past the queue. Rejects with the refusal. */
  async issueOwn({ spiffeId, csr, grant }: OwnSvidRequest): Promise<IssuedSvid> {
    const { signingIssuer, clock, backdateMs, random, audit, metrics } = this.#options;
    const arrivedMs = clock.monotonic();
    try {
      const request = { api: 'internal', instance: null, peerAddress: null, spiffeId, csr } as const;
      const prepared = PreparedSvid.prepare(request, { kind: 'granted', grant });
      const svid = await prepared
        .ticket({ issuer: signingIssuer(), nowMs: clock.now(), backdateMs, random })
        .sign();
      const [receipt] = await audit.append([svid.entry]);
      if (receipt === undefined) throw new TypeError('the audit log gave no receipt');
      const issued = svid.release(receipt);
      metrics.issued('internal', clock.monotonic() - arrivedMs);
      return issued;
    } catch (error) {
      this.refuse({ api: 'internal', error, spiffeId });
      throw error;
    }
  }

  /**
   * Counts and records a refusal that happened before a request came here. See {@link RefusalLog}. The SPIFFE ID of an
   * instance that was attested is added where it is missing.
   */
  refuse(refusal: Refusal): void {
    this.#options.refusals.record({ ...refusal, spiffeId: refusal.spiffeId ?? this.#idOf(refusal.instance) });
  }

  /** Undefined where there is none: no instance, or one that the template does not fit. */
  #idOf(instance: Refusal['instance']): SpiffeId | undefined {
    const { template, trustDomain } = this.#options;
    try {
      return instance === undefined ? undefined : template.apply(instance, trustDomain);
    } catch {
      return undefined;
    }
  }

  /** Takes no more requests; resolves when those that were taken are answered. */
  drain(): Promise<void> {
    this.#draining ??= Promise.withResolvers<void>();
    this.#settleDrain();
    return this.#draining.promise;
  }

  #admit(request: SvidRequest, { resolve, reject }: Pick<Job, 'resolve' | 'reject'>): void {
    const { template, trustDomain, clock } = this.#options;
    const { instance, csr } = request;
    try {
      if (this.#draining !== null) {
        throw new KedgeError('shutting_down', 'this CA is shutting down', { retryAfterMs: 1_000 });
      }
      const spiffeId = template.apply(instance, trustDomain);
      if (csr.length > LIMITS.csrBytes) {
        throw new KedgeError(
          'csr_too_large',
          `the CSR has ${csr.length} bytes, the limit is ${LIMITS.csrBytes}`,
        );
      }
      this.#queue.add(`${instance.cluster}/${instance.podUid}`, {
        request,
        spiffeId,
        arrivedMs: clock.monotonic(),
        resolve,
        reject,
      });
    } catch (error) {
      const { api, peer } = request;
      this.refuse({ api, error, instance, peer });
      reject(error);
      return;
    }
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#queue.size === 0 || this.#uncommitted >= MAX_UNCOMMITTED) return;
    this.#scheduled = true;
    setImmediate(() => this.#runSlice());
  }

  #runSlice(): void {
    this.#scheduled = false;
    const jobs = this.#queue.take(this.#slicer.size, leaveAlone);
    const signed = this.#slicer.sign(jobs, (job, error) => this.#refuseJob(job, error));
    this.#uncommitted += signed.length;
    if (signed.length > 0) void this.#commitSigned(signed);
    this.#schedule();
    this.#settleDrain();
  }

  /** A signer in this process has answered already; the signatures of one outside share a commit too. */
  async #commitSigned(staged: readonly Staged<SignedSvid | Promise<SignedSvid>>[]): Promise<void> {
    const ready: Staged<SignedSvid>[] = [];
    const later: Promise<void>[] = [];
    for (const { job, value } of staged) {
      if (value instanceof SignedSvid) ready.push({ job, value });
      else {
        later.push(
          value.then(
            (svid) => void ready.push({ job, value: svid }),
            (error: unknown) => this.#refuseJob(job, error),
          ),
        );
      }
    }
    if (later.length > 0) await Promise.all(later);
    if (ready.length > 0) await this.#commit(ready);
    this.#uncommitted -= staged.length;
    this.#schedule();
    this.#settleDrain();
  }

  /** Never rejects. */
  async #commit(batch: readonly Staged<SignedSvid>[]): Promise<void> {
    const { audit, clock, metrics } = this.#options;
    try {
      const receipts = await audit.append(batch.map(({ value }) => value.entry));
      const nowMs = clock.monotonic();
      for (const [index, { job, value }] of batch.entries()) {
        const receipt = receipts[index];
        if (receipt === undefined) throw new TypeError('the audit log gave no receipt');
        job.resolve(value.release(receipt));
        metrics.issued(job.request.api, nowMs - job.arrivedMs);
      }
    } catch (error) {
      for (const { job } of batch) this.#refuseJob(job, error);
    }
  }

  #refuseJob(job: Job, error: unknown): void {
    const { api, instance, peer } = job.request;
    this.refuse({ api, error, instance, peer, spiffeId: job.spiffeId });
    job.reject(error);
  }

  #settleDrain(): void {
    if (this.#queue.size === 0 && this.#uncommitted === 0 && !this.#scheduled) this.#draining?.resolve();
  }
}

/** The caller's promise was rejected when it left. */
function leaveAlone(): void {}

function departure(signal: AbortSignal): KedgeError {
  const reason: unknown = signal.reason;
  if (isKedgeError(reason)) return reason;
  return new KedgeError('cancelled', 'the caller left before its SVID was issued', { cause: reason });
}
