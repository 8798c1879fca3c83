import { BUNDLE_DOCUMENT_KEY } from '../../ca/distribution/bundle-objects.ts';
import {
  BUNDLE_PEM_KEY,
  INJECT_ENABLED,
  INJECT_KEY,
  TRUST_BUNDLE_NAME,
} from '../../ca/kubernetes/cluster-names.ts';
import { CONFIG_MAP, type KubernetesObject, NAMESPACE } from '../../ca/kubernetes/objects.ts';
import { type BundleDocument, parseBundleDocument } from '../../pki/bundle-document.ts';
import { describeCertificate } from '../../pki/inspect.ts';
import { isKedgeError, quote } from '../../pki/kedge-error.ts';
import { decodePem } from '../../pki/pem.ts';
import { spanText } from '../text-table.ts';
import type { Check, CheckAnswer, CheckContext } from './check.ts';
import { textOf } from './field.ts';
import { found, named } from './plane-checks.ts';

const CATEGORY = 'trust';
const DAY_MS = 86_400_000;
const ANCHOR_WARNING_MS = 60 * DAY_MS;
const ANCHOR_FAILURE_MS = 2 * DAY_MS;

/** Whether every meshed namespace has the trust bundle, and how long its anchors live. */
export const TRUST_CHECKS: readonly Check[] = [
  {
    category: CATEGORY,
    statement: 'the trust bundle is in every meshed namespace',
    ask: async (context) => {
      const namespaces = await meshedNamespaces(context);
      const missing: string[] = [];
      for (const name of namespaces) {
        if ((await bundleIn(context, name)) === null) missing.push(name);
      }
      if (namespaces.length === 0) return { verdict: 'skipped', detail: 'no namespace is meshed' };
      if (missing.length === 0) return { verdict: 'ok', detail: `${namespaces.length} namespaces` };
      return {
        verdict: 'failed',
        detail: `without ConfigMap ${TRUST_BUNDLE_NAME}: ${named(missing)}`,
        hint: 'the CA makes it within seconds: its log says why it does not',
      };
    },
  },
  { category: CATEGORY, statement: 'every namespace has the same trust bundle', ask: driftAnswer },
  { category: CATEGORY, statement: 'no trust anchor expires soon', ask: anchorExpiryAnswer },
];

/** Names of the namespaces that ask for the agent. */
export async function meshedNamespaces({ api, signal }: CheckContext): Promise<readonly string[]> {
  const { items } = await api.list(NAMESPACE, { labelSelector: `${INJECT_KEY}=${INJECT_ENABLED}`, signal });
  return items.map(({ metadata }) => metadata.name).toSorted();
}

/** The anchors in the newest bundle of any meshed namespace, as DER; null where there is none. */
export async function newestAnchors(context: CheckContext): Promise<readonly Uint8Array[] | null> {
  const bundles = await readBundles(context);
  return newestOf(bundles)?.document?.x509Authorities ?? null;
}

interface NamespaceBundle {
  readonly namespace: string;
  readonly pem: string;
  /** Null where it cannot be read; `problem` says why. */
  readonly document: BundleDocument | null;
  readonly problem: string;
}

async function driftAnswer(context: CheckContext): Promise<CheckAnswer> {
  const bundles = await readBundles(context);
  const broken = bundles.filter(({ document }) => document === null);
  if (broken.length > 0) {
    return {
      verdict: 'failed',
      detail: `not a trust bundle: ${named(broken.map(({ namespace, problem }) => `${namespace} (${problem})`))}`,
      hint: 'the CA repairs what was edited by hand: its log says why it does not',
    };
  }
  const newest = newestOf(bundles);
  if (newest === null) return { verdict: 'skipped', detail: 'no namespace has a trust bundle yet' };
  const behind = bundles.filter(({ pem }) => pem !== newest.pem).map(({ namespace }) => namespace);
  if (behind.length === 0) return { verdict: 'ok', detail: `sequence ${String(newest.document?.sequence)}` };
  return {
    verdict: 'warning',
    detail: `other anchors than the newest: ${named(behind)}`,
    hint: 'ask again in a moment; the log of the CA names what it cannot write',
  };
}

async function anchorExpiryAnswer(context: CheckContext): Promise<CheckAnswer> {
  const anchors = await newestAnchors(context);
  if (anchors === null || anchors.length === 0) {
    return { verdict: 'skipped', detail: 'no namespace has a trust bundle yet' };
  }
  const left =
    Math.min(...anchors.map((der) => Date.parse(describeCertificate(der).notAfter))) - context.clock.now();
  if (left >= ANCHOR_WARNING_MS) return { verdict: 'ok', detail: `the first in ${spanText(left)}` };
  return {
    verdict: left < ANCHOR_FAILURE_MS ? 'failed' : 'warning',
    detail: left <= 0 ? 'a trust anchor has expired' : `a trust anchor expires in ${spanText(left)}`,
    hint: 'rotate it: every SVID below it ends with it',
  };
}

async function readBundles(context: CheckContext): Promise<readonly NamespaceBundle[]> {
  const bundles: NamespaceBundle[] = [];
  // The CA keeps one in its own namespace too: it is there before any namespace is meshed.
  for (const namespace of new Set([context.namespace, ...(await meshedNamespaces(context))])) {
    const object = await bundleIn(context, namespace);
    if (object !== null) bundles.push(readBundle(namespace, object));
  }
  return bundles;
}

function readBundle(namespace: string, object: KubernetesObject): NamespaceBundle {
  const pem = textOf(object, 'data', BUNDLE_PEM_KEY);
  try {
    const document = parseBundleDocument(Buffer.from(textOf(object, 'data', BUNDLE_DOCUMENT_KEY)));
    const fromPem = decodePem(pem, 'CERTIFICATE').map((der) => Buffer.from(der).toString('base64'));
    const fromDocument = document.x509Authorities.map((der) => Buffer.from(der).toString('base64'));
    if (fromPem.join() === fromDocument.join()) return { namespace, pem, document, problem: '' };
    return { namespace, pem, document: null, problem: `${BUNDLE_PEM_KEY} and ${BUNDLE_DOCUMENT_KEY} differ` };
  } catch (error) {
    if (!isKedgeError(error)) throw error;
    return { namespace, pem, document: null, problem: quote(error.message, 120) };
  }
}

function newestOf(bundles: readonly NamespaceBundle[]): NamespaceBundle | null {
  const sequenceOf = ({ document }: NamespaceBundle): bigint => document?.sequence ?? -1n;
  return bundles
    .filter(({ document }) => document !== null)
    .reduce<NamespaceBundle | null>(
      (newest, bundle) => (newest === null || sequenceOf(bundle) > sequenceOf(newest) ? bundle : newest),
      null,
    );
}

async function bundleIn({ api, signal }: CheckContext, namespace: string): Promise<KubernetesObject | null> {
  return await found(() => api.get(CONFIG_MAP, { namespace, name: TRUST_BUNDLE_NAME }, { signal }));
}
