import { stringify } from 'yaml';
import { caServiceAddress, INSTALL_NAMES, INSTALL_PORTS } from './install-names.ts';
import type { InstallValues } from './install-values.ts';

/** The configuration of the CA in the cluster, YAML. What is not in it has the default of docs/configuration.md. */
export function caConfigText(values: InstallValues): string {
  const { namespace, bindAddress, image, imagePullPolicy } = values;
  const at = (port: number): string => `${bindAddress}:${port}`;
  return stringify({
    trustDomain: values.trustDomain,
    dataFolder: '/var/lib/kedge',
    logLevel: values.logLevel,
    listen: { grpc: at(INSTALL_PORTS.grpc), http: at(INSTALL_PORTS.http) },
    store: { kind: 'kubernetes' },
    svid: { ttl: values.svidTtl },
    attest: { kind: 'tokenReview', cluster: values.cluster, audience: values.audience },
    policy: { file: '/etc/kedge/policy.yaml' },
    // The data folder goes with the pod; the cluster's log collector keeps the audit log.
    audit: { standardOutput: true },
    webhook: {
      address: at(INSTALL_PORTS.webhook),
      namespace,
      service: INSTALL_NAMES.ca,
      failurePolicy: values.failurePolicy,
    },
    injection: { image, imagePullPolicy, caAddress: caServiceAddress(values) },
  });
}
