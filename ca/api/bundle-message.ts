import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { TrustBundle } from '../../proto/gen/kedge/v1/identity.ts';
import type { BundleView } from '../authority/trust-view.ts';

/** Field numbers of a TrustBundle in the messages that carry one, as tag (length-delimited). */
const ISSUE_RESPONSE_BUNDLE_TAG = (2 << 3) | 2;
const WATCH_RESPONSE_BUNDLE_TAG = (1 << 3) | 2;

/** A trust bundle, encoded once for all who are sent it. */
export interface BundleMessage {
  readonly bundle: TrustBundle;
  /** Field `bundle` of an IssueX509SvidResponse: appended to the bytes of one that has none. */
  readonly issueField: Uint8Array;
  /** Field `bundle` of a WatchResponse. */
  readonly watchField: Uint8Array;
}

/** Encodes the bundle of a view. `refreshHintSeconds` as in the SPIFFE bundle document. */
export function bundleMessage(view: BundleView, refreshHintSeconds: number): BundleMessage {
  const bundle: TrustBundle = {
    trustDomain: view.trustDomain,
    sequence: BigInt(view.sequence),
    refreshHintSeconds,
    x509Authorities: [...view.x509Authorities],
    crls: [],
  };
  const encoded = TrustBundle.encode(bundle).finish();
  const field = (tag: number): Uint8Array => new BinaryWriter().uint32(tag).bytes(encoded).finish();
  return {
    bundle,
    issueField: field(ISSUE_RESPONSE_BUNDLE_TAG),
    watchField: field(WATCH_RESPONSE_BUNDLE_TAG),
  };
}

/** The bundle in force, encoded again only when it changed. */
export class CurrentBundle {
  readonly #read: () => BundleView;
  readonly #refreshHintSeconds: number;
  #view: BundleView | null = null;
  #message: BundleMessage | null = null;

  constructor(options: {
    /** The bundle of this moment; the same object until it changes. */
    readonly read: () => BundleView;
    readonly refreshHintSeconds: number;
  }) {
    this.#read = options.read;
    this.#refreshHintSeconds = options.refreshHintSeconds;
  }

  get(): BundleMessage {
    const view = this.#read();
    if (this.#message === null || view !== this.#view) {
      // Most changes of the trust state leave the bundle as it is; then nobody is sent it again.
      if (this.#message === null || this.#view === null || !sameBundle(view, this.#view)) {
        this.#message = bundleMessage(view, this.#refreshHintSeconds);
      }
      this.#view = view;
    }
    return this.#message;
  }
}

function sameBundle(a: BundleView, b: BundleView): boolean {
  return (
    a.trustDomain === b.trustDomain &&
    a.sequence === b.sequence &&
    a.x509Authorities.length === b.x509Authorities.length &&
    a.x509Authorities.every((der, i) => Buffer.compare(der, b.x509Authorities[i] ?? new Uint8Array(0)) === 0)
  );
}
