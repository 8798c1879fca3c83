import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { parseStrictJson } from '../../pki/strict-json.ts';
import { type Edit, jsonPatch } from '../inject/edit.ts';
import { isMap, type Json, member, plainJson } from '../inject/json.ts';

/** What the API server asks, as far as the webhook looks at it (admission.k8s.io, AdmissionReview). */
export interface AdmissionRequest {
  /** The version that was asked in, and is answered in. */
  readonly apiVersion: 'admission.k8s.io/v1' | 'admission.k8s.io/v1beta1';
  /** Names the request; given back. */
  readonly uid: string;
  /** Group, version and resource, as `/v1/pods`; with the subresource where there is one. */
  readonly resource: string;
  readonly operation: string;
  /** Empty where the object has none. */
  readonly namespace: string;
  readonly dryRun: boolean;
  /** The object as it is to be. */
  readonly object: Json;
}

/** What the API server is told. */
export type AdmissionAnswer =
  | { readonly allowed: true; readonly edits: readonly Edit[]; readonly warning?: string }
  | { readonly allowed: false; readonly message: string };

/** Objects and arrays inside one another: a pod with its managed fields has some 15. */
const MAX_DEPTH = 64;
const VERSIONS = ['admission.k8s.io/v1', 'admission.k8s.io/v1beta1'] as const;

/** Reads an AdmissionReview. Throws `admission_review_malformed`. */
export function parseAdmissionReview(bytes: Uint8Array): AdmissionRequest {
  const review = plainJson(
    parseStrictJson(bytes, { maxDepth: MAX_DEPTH, code: 'admission_review_malformed' }),
  );
  const version = member(review, 'apiVersion');
  const apiVersion = VERSIONS.find((known) => known === version);
  if (apiVersion === undefined || member(review, 'kind') !== 'AdmissionReview') {
    throw malformed(
      `this is a ${shown(member(review, 'kind'))} of ${shown(version)}, not an AdmissionReview of ${VERSIONS.join(' or ')}`,
    );
  }
  const request = member(review, 'request');
  if (!isMap(request)) throw malformed('request is no object');
  const resource = member(request, 'resource');
  const subresource = member(request, 'subResource');
  const names = ['group', 'version', 'resource'].map((name) =>
    textAt(resource, name, `request.resource.${name}`),
  );
  return {
    apiVersion,
    uid: textAt(request, 'uid', 'request.uid'),
    resource: [
      ...names,
      ...(typeof subresource === 'string' && subresource !== '' ? [subresource] : []),
    ].join('/'),
    operation: textAt(request, 'operation', 'request.operation'),
    namespace:
      member(request, 'namespace') === undefined ? '' : textAt(request, 'namespace', 'request.namespace'),
    dryRun: member(request, 'dryRun') === true,
    object: member(request, 'object') ?? null,
  };
}

/** The answer as an AdmissionReview, JSON. */
export function formatAdmissionReview(request: AdmissionRequest, answer: AdmissionAnswer): string {
  const { apiVersion, uid } = request;
  return JSON.stringify({
    apiVersion,
    kind: 'AdmissionReview',
    response: { uid, ...responseOf(request, answer) },
  });
}

function responseOf({ apiVersion }: AdmissionRequest, answer: AdmissionAnswer): object {
  // Not 422, Invalid, which would be the word for it: of that kubectl shows no message but its own.
  if (!answer.allowed) {
    return {
      allowed: false,
      status: { status: 'Failure', message: answer.message, reason: 'BadRequest', code: 400 },
    };
  }
  const { edits, warning } = answer;
  const patch =
    edits.length === 0
      ? {}
      : { patchType: 'JSONPatch', patch: Buffer.from(JSON.stringify(jsonPatch(edits))).toString('base64') };
  // Version v1beta1 has no warnings.
  const warnings =
    warning === undefined || apiVersion !== 'admission.k8s.io/v1' ? {} : { warnings: [warning] };
  return { allowed: true, ...patch, ...warnings };
}

/** Longest text of a request that is given back or looked at, characters. */
const MAX_TEXT = 253;

function textAt(value: Json | undefined, name: string, where: string): string {
  const text = member(value, name);
  if (typeof text !== 'string') throw malformed(`${where} is no text`);
  if (text.length > MAX_TEXT) throw malformed(`${where} is over ${MAX_TEXT} characters`);
  return text;
}

function shown(value: Json | undefined): string {
  return typeof value === 'string' ? quote(value) : 'nothing';
}

function malformed(message: string): KedgeError {
  return new KedgeError('admission_review_malformed', message, {
    hint: 'only the API server is to ask here, by the MutatingWebhookConfiguration of Kedge',
  });
}
