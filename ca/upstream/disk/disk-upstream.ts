import type { KeyObject } from 'node:crypto';
import type { Clock } from '../../../host/clock.ts';
import type { Random } from '../../../host/random.ts';
import { attempt } from '../../../pki/attempt.ts';
import { equalBytes, toHex } from '../../../pki/bytes.ts';
import { KedgeError } from '../../../pki/kedge-error.ts';
import type { TrustDomain } from '../../../pki/spiffe-id.ts';
import type { KeyImporter } from '../../keys/key-manager.ts';
import type {
  GivenIssuer,
  GivenIssuerRequest,
  MintedIssuer,
  MintIssuerRequest,
  NewAnchorRequest,
  UpstreamAnchor,
  UpstreamAuthority,
} from '../upstream-authority.ts';
import { checkPathValidity } from './ca-path-check.ts';
import { type CaPath, chainOf, rootOf } from './ca-paths.ts';
import type { DiskMaterial } from './disk-material.ts';
import type { DiskSettings } from './disk-settings.ts';
import type { DiskSource } from './disk-source.ts';

/** What a {@link DiskUpstream} is made of. */
export interface DiskUpstreamOptions {
  readonly settings: DiskSettings;
  readonly source: DiskSource;
  readonly trustDomain: TrustDomain;
  /** Takes the issuer's key in mode `issuer`. */
  readonly keys: KeyImporter;
  readonly clock: Clock;
  /** Source of serial numbers and key ids. */
  readonly random: Random;
}

const SERIAL_NUMBER_BYTES = 16;

/**
 * The {@link UpstreamAuthority} in files, as cert-manager, step, openssl or a person write them. In mode
 * `intermediate` the files' CA signs Kedge's issuers; in mode `issuer` it is the issuer, as in Linkerd.
 *
 * With bad files it goes on with the newest good ones; see {@link DiskSource}. Errors beyond those of the seam: the
 * disk_* codes.
 */
export class DiskUpstream implements UpstreamAuthority {
  readonly kind = 'disk';
  readonly #options: DiskUpstreamOptions;
  /** Only in mode `issuer`. */
  readonly givenIssuer?: (request: GivenIssuerRequest, signal: AbortSignal) => Promise<GivenIssuer | null>;

  constructor(options: DiskUpstreamOptions) {
    this.#options = options;
    if (options.settings.mode === 'issuer') {
      this.givenIssuer = (request, signal) => this.#givenIssuer(request, signal);
    }
  }

  /** The root that the files' CA hangs under; of several, the one that begins last. */
  async newAnchor({ known }: NewAnchorRequest, signal: AbortSignal): Promise<UpstreamAnchor | null> {
    const [path] = await this.#validPaths(signal);
    const { der } = rootOf(path);
    return known.some((one) => equalBytes(one, der)) ? null : { certificate: der, key: null };
  }

  async mintIssuer(request: MintIssuerRequest, signal: AbortSignal): Promise<MintedIssuer> {
    const { trustDomain, random, settings } = this.#options;
    const path = pathUnder(await this.#validPaths(signal), request.anchor);
    if (path === undefined) throw otherRoot();
    if (settings.mode === 'issuer') {
      throw new KedgeError('upstream_refused', 'the files hold an issuer, which signs no other issuer', {
        hint: 'set upstream.disk.mode to intermediate where the files hold a CA that signs issuers',
      });
    }
    const { signer } = await this.#options.source.material();
    // A quarter of a second and 25 MB, needed a few times a year: never at a start.
    const { mintIssuer } = await import('../../../pki/authority-profile.ts');
    const certificate = await mintIssuer({
      csr: request.csr,
      trustDomain,
      anchor: path[0].der,
      signer,
      notBeforeMs: Math.max(request.notBeforeMs, ...path.map(({ notBeforeMs }) => notBeforeMs)),
      notAfterMs: Math.min(request.notAfterMs, ...path.map(({ notAfterMs }) => notAfterMs)),
      serialNumber: random.bytes(SERIAL_NUMBER_BYTES),
    });
    return { chain: [certificate, ...chainOf(path)] };
  }

  /** Yields after each new content of the files that is good. */
  async *watch(signal: AbortSignal): AsyncGenerator<void, void, undefined> {
    const { source, clock, settings } = this.#options;
    let { generation } = source;
    while (!signal.aborted) {
      try {
        await clock.sleep(settings.pollMs, signal);
      } catch (error) {
        if (signal.aborted) return;
        throw error;
      }
      await source.check();
      if (source.generation === generation) continue;
      generation = source.generation;
      yield;
    }
  }

  problem(): string | null {
    return this.#options.source.problem();
  }

  async #givenIssuer(
    { anchor, known }: GivenIssuerRequest,
    signal: AbortSignal,
  ): Promise<GivenIssuer | null> {
    const { source, keys, random } = this.#options;
    const paths = await this.#validPaths(signal);
    const { key }: { key: KeyObject } = await source.material();
    const path = pathUnder(paths, anchor);
    if (path === undefined || known.some((one) => equalBytes(one, path[0].der))) return null;
    return {
      chain: chainOf(path),
      takeKey: () => keys.importKey(`issuer-${toHex(random.bytes(8))}`, key),
    };
  }

  /** The ways to a root that are valid now. Throws why there is none. */
  async #validPaths(signal: AbortSignal): Promise<readonly [CaPath, ...CaPath[]]> {
    signal.throwIfAborted();
    const { source, clock } = this.#options;
    const { paths }: DiskMaterial = await source.material();
    signal.throwIfAborted();
    const nowMs = clock.now();
    const [first, ...others] = paths.filter((path) => attempt(() => checkPathValidity(path, nowMs)).ok);
    if (first !== undefined) return [first, ...others];
    checkPathValidity(paths[0], nowMs);
    throw new TypeError('the path is valid after all');
  }
}

function pathUnder(paths: readonly CaPath[], anchor: UpstreamAnchor): CaPath | undefined {
  return paths.find((path) => equalBytes(rootOf(path).der, anchor.certificate));
}

function otherRoot(): KedgeError {
  return new KedgeError('upstream_refused', 'the files hang under another root than the trust anchor', {
    hint: 'a rotation to their root begins by itself; to stay with the anchor put back the files below it',
  });
}
