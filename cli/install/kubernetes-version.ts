import { KedgeError, quote } from '../../pki/kedge-error.ts';

/** The version of a Kubernetes API, as far as manifests differ by it. */
export interface KubernetesVersion {
  readonly minor: number;
}

/** The oldest minor version of Kubernetes 1 that the manifests are for. */
export const OLDEST_MINOR = 20;

/** What `kedge install` writes for where no version is given: every API that it uses has been stable since. */
export const DEFAULT_KUBERNETES_VERSION = '1.30';

/** Reads `1.30`, `v1.30`, `1.30.2`. Throws `usage_invalid`. */
export function parseKubernetesVersion(text: string): KubernetesVersion {
  const match = /^v?1\.(\d{1,3})(\.\d{1,3})?([-+][0-9A-Za-z.+-]{1,64})?$/.exec(text);
  const minor = Number(match?.[1] ?? Number.NaN);
  if (minor >= OLDEST_MINOR) return { minor };
  throw new KedgeError('usage_invalid', `--kubernetes-version does not take ${quote(text)}`, {
    hint: `write a version such as ${DEFAULT_KUBERNETES_VERSION}, 1.${OLDEST_MINOR} or newer`,
  });
}
