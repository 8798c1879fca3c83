import { formatBundleDocument, parseBundleDocument } from '../../pki/bundle-document.ts';
import { encodePem } from '../../pki/pem.ts';
import type { BundleView } from '../authority/trust-view.ts';
import { membersOf } from '../kubernetes/api-answer.ts';
import { BUNDLE_PEM_KEY, MANAGED_BY, OWN_LABELS, TRUST_BUNDLE_NAME } from '../kubernetes/cluster-names.ts';
import type { KubernetesObject, ObjectDraft } from '../kubernetes/objects.ts';

/*
 * The trust bundle as objects of the Kubernetes API: what they are to be, and what is to be done about those that are
 * there. Pure.
 */

/** The key of the ConfigMap with the SPIFFE bundle document: the same anchors, with the sequence. */
export const BUNDLE_DOCUMENT_KEY = 'bundle.json';
/** The annotation that names the trust domain of a bundle. */
export const TRUST_DOMAIN_ANNOTATION = 'kedge.io/trust-domain';

/** The annotation with the sequence of the bundle in a ClusterTrustBundle, which has no other place for it. */
const SEQUENCE_ANNOTATION = 'kedge.io/bundle-sequence';

/** The trust bundle in the forms in which it is published. */
export interface PublishedBundle {
  readonly trustDomain: string;
  readonly sequence: number;
  readonly pem: string;
  /** SPIFFE bundle document, JSON. */
  readonly document: string;
}

/** The bundle of a trust view, in its published forms. */
export function publishedBundle(view: BundleView, refreshHintSeconds: number): PublishedBundle {
  const { trustDomain, sequence, x509Authorities } = view;
  const document = formatBundleDocument({
    sequence: BigInt(sequence),
    refreshHintSeconds,
    x509Authorities,
  });
  return {
    trustDomain,
    sequence,
    pem: x509Authorities.map((der) => encodePem('CERTIFICATE', der)).join(''),
    document: Buffer.from(document).toString('utf8'),
  };
}

/**
 * The ConfigMap that a namespace is to have. `existing` makes it replace that very version; what others put into its
 * labels and annotations stays.
 */
export function bundleConfigMap(
  namespace: string,
  bundle: PublishedBundle,
  existing: KubernetesObject | null,
): ObjectDraft {
  return { metadata: metadataOf(bundle, { namespace }, existing), data: dataOf(bundle) };
}

/** The ClusterTrustBundle that the cluster is to have (certificates.k8s.io, not linked to a signer). */
export function clusterTrustBundle(bundle: PublishedBundle, existing: KubernetesObject | null): ObjectDraft {
  const metadata = metadataOf(bundle, {}, existing);
  const annotations = { ...metadata.annotations, [SEQUENCE_ANNOTATION]: String(bundle.sequence) };
  return { metadata: { ...metadata, annotations }, spec: { trustBundle: bundle.pem } };
}

/** What an object of our name in the cluster is, measured by what it is to be. */
export type BundleVerdict =
  | 'missing'
  /** Somebody else's: never touched. */
  | 'foreign'
  | 'current'
  /** As this Kedge, or another replica, wrote it for an earlier bundle. */
  | 'older'
  /** As another replica wrote it for a bundle that this one has not read yet. */
  | 'newer'
  /** Ours, and changed by somebody else. */
  | 'edited';

/** Judges the ConfigMap of a namespace. */
export function judgeConfigMap(existing: KubernetesObject | null, bundle: PublishedBundle): BundleVerdict {
  if (existing === null) return 'missing';
  if (!isOurs(existing, bundle)) return 'foreign';
  const data = membersOf(existing['data']);
  const want = dataOf(bundle);
  const sameKeys = Object.keys(data).toSorted().join() === Object.keys(want).toSorted().join();
  const binary = Object.keys(membersOf(existing['binaryData'])).length > 0;
  if (sameKeys && !binary && Object.entries(want).every(([key, value]) => data[key] === value))
    return 'current';
  if (!sameKeys || binary) return 'edited';
  return judgeContent(data[BUNDLE_DOCUMENT_KEY], data[BUNDLE_PEM_KEY], bundle);
}

/** Judges the ClusterTrustBundle. */
export function judgeClusterTrustBundle(
  existing: KubernetesObject | null,
  bundle: PublishedBundle,
): BundleVerdict {
  if (existing === null) return 'missing';
  if (!isOurs(existing, bundle)) return 'foreign';
  const sequence = existing.metadata.annotations?.[SEQUENCE_ANNOTATION] ?? '';
  const holdsOurs = membersOf(existing['spec'])['trustBundle'] === bundle.pem;
  if (!/^[1-9]\d{0,15}$/.test(sequence) || sequence === String(bundle.sequence)) {
    return holdsOurs && sequence !== '' ? 'current' : 'edited';
  }
  return Number(sequence) > bundle.sequence ? 'newer' : 'older';
}

/** Whether the object can be replaced no more, only removed (`immutable: true`). */
export function isImmutable(object: KubernetesObject): boolean {
  return object['immutable'] === true;
}

function isOurs({ metadata }: KubernetesObject, { trustDomain }: PublishedBundle): boolean {
  const owner = metadata.annotations?.[TRUST_DOMAIN_ANNOTATION];
  // Two trust domains in one cluster must not fight over one name. Without the annotation it was edited, by the label.
  return metadata.labels?.[MANAGED_BY] === 'kedge' && (owner === undefined || owner === trustDomain);
}

/** What Kedge wrote for another bundle is whole: both forms hold the same anchors. */
function judgeContent(document: unknown, pem: unknown, bundle: PublishedBundle): BundleVerdict {
  if (typeof document !== 'string' || typeof pem !== 'string') return 'edited';
  try {
    const { sequence, x509Authorities } = parseBundleDocument(Buffer.from(document));
    const whole = x509Authorities.map((der) => encodePem('CERTIFICATE', der)).join('') === pem;
    if (sequence === undefined || !whole || x509Authorities.length === 0) return 'edited';
    if (sequence > BigInt(bundle.sequence)) return 'newer';
    // The same sequence with another refresh hint is an earlier configuration; with other anchors it is no bundle of ours.
    return sequence < BigInt(bundle.sequence) || pem === bundle.pem ? 'older' : 'edited';
  } catch {
    return 'edited';
  }
}

function metadataOf(
  { trustDomain }: PublishedBundle,
  place: { readonly namespace?: string },
  existing: KubernetesObject | null,
): NonNullable<ObjectDraft['metadata']> & { readonly annotations: Readonly<Record<string, string>> } {
  const { labels, annotations, resourceVersion } = existing?.metadata ?? {};
  return {
    ...place,
    name: TRUST_BUNDLE_NAME,
    labels: { ...labels, ...OWN_LABELS },
    annotations: { ...annotations, [TRUST_DOMAIN_ANNOTATION]: trustDomain },
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
  };
}

function dataOf({ pem, document }: PublishedBundle): Readonly<Record<string, string>> {
  return { [BUNDLE_PEM_KEY]: pem, [BUNDLE_DOCUMENT_KEY]: document };
}
