import type { InstallValues } from './install-values.ts';

/** Names that manifests, RBAC and checks must agree on. */
export const INSTALL_NAMES = {
  /** Deployment, Service, ServiceAccount and ClusterRole of the CA. */
  ca: 'kedge-ca',
  /** ConfigMap with the configuration and the policy. */
  config: 'kedge-config',
  priorityClass: 'kedge-identity-plane',
} as const;

/** Ports of the CA's container and Service. */
export const INSTALL_PORTS = {
  /** gRPC, for agents. */
  grpc: 8443,
  /** HTTP in the clear: metrics and probes. */
  http: 9443,
  /** HTTPS, for the API server's admission calls. */
  webhook: 9444,
} as const;

/** Labels that select the pods of the CA. Fixed: a Deployment's selector cannot change. */
export const CA_SELECTOR: Readonly<Record<string, string>> = {
  'app.kubernetes.io/name': 'kedge',
  'app.kubernetes.io/component': 'ca',
};

/** Labels of everything that is installed. */
export const INSTALLED_LABELS: Readonly<Record<string, string>> = { 'app.kubernetes.io/part-of': 'kedge' };

/** `host:port` under which agents reach the CA. */
export function caServiceAddress({ namespace }: InstallValues): string {
  return `${INSTALL_NAMES.ca}.${namespace}.svc:${INSTALL_PORTS.grpc}`;
}
