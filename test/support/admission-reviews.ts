/** An AdmissionReview as the API server sends one; `request` replaces members of its request. */
export function admissionReview(
  pod: unknown,
  request: Readonly<Record<string, unknown>> = {},
  apiVersion = 'admission.k8s.io/v1',
): Readonly<Record<string, unknown>> {
  return {
    kind: 'AdmissionReview',
    apiVersion,
    request: {
      uid: 'aca40358-f14c-4d76-a808-5fed36d903ea',
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      requestKind: { group: '', version: 'v1', kind: 'Pod' },
      requestResource: { group: '', version: 'v1', resource: 'pods' },
      namespace: 'shop',
      operation: 'CREATE',
      userInfo: { username: 'kubernetes-admin', groups: ['system:masters', 'system:authenticated'] },
      object: pod,
      oldObject: null,
      dryRun: false,
      options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
      ...request,
    },
  };
}

/** The answer to one, with its patch decoded. */
export interface ReviewAnswer {
  readonly apiVersion: string;
  readonly kind: string;
  readonly response: {
    readonly uid: string;
    readonly allowed: boolean;
    readonly patchType?: string;
    readonly patch?: string;
    readonly warnings?: readonly string[];
    readonly status?: { readonly message: string; readonly code: number };
  };
}

/** The operations of a patch; none where there is no patch. */
export function patchOf({ response: { patch } }: ReviewAnswer): readonly object[] {
  return patch === undefined ? [] : (JSON.parse(Buffer.from(patch, 'base64').toString()) as object[]);
}
