import { isDeepStrictEqual } from 'node:util';
import { isKedgeError } from '../../pki/kedge-error.ts';
import { decodePem } from '../../pki/pem.ts';
import { isList, isMap, type Json, type JsonMap, member } from '../inject/json.ts';
import { withCaBundle } from '../inject/webhook-configuration.ts';

/** What a MutatingWebhookConfiguration of ours is, measured by what it is to be. */
export type ConfigurationVerdict =
  | { readonly kind: 'current' }
  | {
      readonly kind: 'drifted';
      /** What the object is to have as its `webhooks`: ours, and what others put beside them. */
      readonly webhooks: readonly JsonMap[];
      /**
       * Whether a trust anchor would go that we do not know. It may be a newer one than we have read of, which another
       * replica put there: that is not to be taken away in a hurry.
       */
      readonly removesAnchors: boolean;
    };

/** Judges the `webhooks` of the object; `wanted` are ours, without a caBundle, and `anchorsPem` is to be in it. */
export function judgeConfiguration(
  found: unknown,
  wanted: readonly JsonMap[],
  anchorsPem: string,
): ConfigurationVerdict {
  const hooks = (isList(found) ? found : []).filter(isMap);
  const ours = withCaBundle(wanted, anchorsPem);
  const names = new Set(ours.map(nameOf));
  const others = hooks.filter((hook) => !names.has(nameOf(hook)));
  const own = hooks.filter((hook) => names.has(nameOf(hook)));
  if (
    own.length === ours.length &&
    ours.every((hook) => own.some((there) => isDeepStrictEqual(there, hook)))
  ) {
    return { kind: 'current' };
  }
  const known = new Set(anchorsIn(Buffer.from(anchorsPem).toString('base64')));
  const removesAnchors = own.some((hook) =>
    anchorsIn(member(member(hook, 'clientConfig'), 'caBundle')).some((anchor) => !known.has(anchor)),
  );
  return { kind: 'drifted', webhooks: [...ours, ...others], removesAnchors };
}

/**
 * Whether the API server trusts every one of these anchors in each of our webhooks, whatever else became of them: others
 * may add to a webhook, as managed clusters do to its namespaceSelector, for as long as they like.
 */
export function trustsAnchors(found: unknown, wanted: readonly JsonMap[], anchorsPem: string): boolean {
  const hooks = (isList(found) ? found : []).filter(isMap);
  const anchors = anchorsIn(Buffer.from(anchorsPem).toString('base64'));
  return wanted.every((ours) => {
    const there = hooks.find((hook) => nameOf(hook) === nameOf(ours));
    const trusted = new Set(anchorsIn(member(member(there, 'clientConfig'), 'caBundle')));
    return anchors.every((anchor) => trusted.has(anchor));
  });
}

function nameOf(hook: JsonMap): Json {
  return hook['name'] ?? null;
}

/** The certificates in a caBundle, each as base64; none for what is no caBundle. */
function anchorsIn(caBundle: Json | undefined): readonly string[] {
  if (typeof caBundle !== 'string') return [];
  try {
    return decodePem(Buffer.from(caBundle, 'base64').toString('latin1'), 'CERTIFICATE').map((der) =>
      Buffer.from(der).toString('base64'),
    );
  } catch (error) {
    if (isKedgeError(error)) return [];
    throw error;
  }
}
