import { KedgeError, quote } from '../../pki/kedge-error.ts';
import { member } from './json.ts';

/** What a cluster can do, as far as injection needs to know. */
export interface ClusterCapabilities {
  /** Init containers with `restartPolicy: Always` (KEP-753) run beside the others. */
  readonly nativeSidecars: boolean;
}

/** A cluster of today, where nobody was asked. */
export const CURRENT_CLUSTER: ClusterCapabilities = { nativeSidecars: true };

/** The first minor version of Kubernetes 1 that has native sidecars without a feature gate (beta, on by default). */
const NATIVE_SIDECARS_MINOR = 29;

/**
 * What a cluster of this version can do, from `1.29`, `v1.36.2` or `1.28+`. On 1.28 native sidecars need the feature
 * gate SidecarContainers, which the API does not show: the setting `native` says that it is on. Throws
 * `config_invalid`.
 */
export function capabilitiesOfVersion(version: string): ClusterCapabilities {
  const [, major, minor] = /^v?(\d{1,3})\.(\d{1,3})(?:\+|[.+-][0-9A-Za-z.+-]{0,100})?$/.exec(version) ?? [];
  if (major === undefined || minor === undefined) {
    throw new KedgeError('config_invalid', `${quote(version)} is not a version of Kubernetes`, {
      hint: 'write it as kubectl version does: 1.29, or v1.29.3',
    });
  }
  return { nativeSidecars: Number(major) > 1 || Number(minor) >= NATIVE_SIDECARS_MINOR };
}

/** The same from the document at `/version` of an API server. Throws `config_invalid`. */
export function capabilitiesOfServer(document: unknown): ClusterCapabilities {
  const [major, minor] = [member(document, 'major'), member(document, 'minor')];
  if (
    typeof major !== 'string' ||
    typeof minor !== 'string' ||
    !/^\d+$/.test(major) ||
    !/^\d+\+?$/.test(minor)
  ) {
    throw new KedgeError('config_invalid', 'the API server tells no version at /version');
  }
  return capabilitiesOfVersion(`${major}.${minor}`);
}
